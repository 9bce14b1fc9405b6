// The table of all points: sorted, filtered, in views; a tick shows a point in the charts.
"use strict";

(() => {
  const { DATA, STATES, el, state, remember, figure, metric, few, named, choose } = report;
  const number = charts.number;

  const LONG = 18;  // letters of a heading that may be broken
  const NEAR_ALL = /_attainment$|_kept$/;  // shares near 100%, where the fourth digit matters

  const isKey = (id) => id.startsWith("key:");
  const place = (id) => Number(id.slice(4));
  const kind = ({ id }) => (isKey(id) ? "text key-column" : id === "state" ? "text" : "");
  const shownColumns = () => DATA.columns.filter((column) =>
    state.view === "all" || isKey(column.id) || (column.views || []).includes(state.view));
  const WORDS = { ...STATES, kept: "✓ keeps", missed: "✗ misses", undecided: "? not certain" };
  const about = Object.fromEntries([...document.querySelectorAll("dt")].map((term) =>
    [term.textContent, term.nextElementSibling.textContent]));

  function matches(point) {
    if (state.kept && point.state !== "kept") return false;
    return state.filter.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
      const asked = word.match(/^([a-z0-9_.]+)(>=|<=|=|>|<)(.+)$/);
      const at = asked ? DATA.keys.findIndex((key, place) => key.toLowerCase().endsWith(asked[1])
        || DATA.columns[place].name.toLowerCase() === asked[1]) : -1;
      if (at < 0) return point.values.some((value) => String(value).toLowerCase().includes(word))
        || point.label.toLowerCase().includes(word);
      const value = point.values[at], wanted = asked[3];
      if (asked[2] === "=") return String(value).toLowerCase() === wanted;
      const [a, b] = [Number(value), Number(wanted)];
      return { ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b }[asked[2]];
    });
  }

  function ordered() {
    const points = DATA.points.filter(matches);
    if (!state.sort) {
      const merit = new Map(DATA.order.map((n, index) => [n, index]));
      return points.sort((a, b) => merit.get(a.n) - merit.get(b.n));
    }
    const value = (point) => {
      if (state.sort === "state") return DATA.order.indexOf(point.n);
      return isKey(state.sort) ? point.values[place(state.sort)] : metric(point, state.sort);
    };
    return points.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      const less = typeof x === "number" && typeof y === "number" ? x - y
        : String(x).localeCompare(String(y));
      return (state.down ? -less : less) || a.n - b.n;
    });
  }

  function cell(point, column) {
    if (isKey(column.id)) {
      const at = place(column.id);
      return (point.said || {})[at] ?? String(point.values[at]);
    }
    if (column.id === "state") return WORDS[point.state];
    const [value, low, high] = figure(point, column.id).map((each) =>
      each === null ? null : Number((each * (column.scale || 1)).toPrecision(12)));
    if (value === null) return "–";
    if (!(high > low)) return number(value);
    return charts.estimate(value, low, high, NEAR_ALL.test(column.id) ? 4 : 3);
  }

  report.drawTable = () => {
    const table = el("points"), columns = shownColumns(), rows = ordered();
    table.textContent = "";
    const head = charts.html(charts.html(table, "thead"), "tr");
    charts.html(head, "th", { scope: "col", class: "tick-box" }, "shown");
    for (const column of columns) {
      const sorted = state.sort === column.id;
      const heading = charts.html(head, "th", { scope: "col",
        "aria-sort": sorted ? (state.down ? "descending" : "ascending") : "none",
        class: `${kind(column)} ${column.name.length > LONG ? "long" : ""}`,
        "data-name": column.name });  // for paper, which repeats no buttons
      const button = charts.html(heading, "button", { type: "button",
        title: about[column.id] || (isKey(column.id) ? DATA.keys[place(column.id)] : "") });
      charts.broken(button, column.name);
      button.addEventListener("click", () => {
        state.down = sorted ? !state.down : false;
        state.sort = column.id;
        remember();
        report.drawTable();
        table.querySelectorAll("th button")[columns.indexOf(column)].focus();
      });
    }
    const body = charts.html(table, "tbody");
    for (const point of rows) {
      // On a phone the name has a row of its own, so that figures are beside their boxes.
      if (point.label) {
        const above = charts.html(body, "tr", { class: "named-row" });
        const whole = charts.html(above, "th", { colspan: columns.length + 1, scope: "rowgroup" });
        charts.broken(charts.html(whole, "span"), point.label);
      }
      const row = charts.html(body, "tr", { class: point.state, "data-n": point.n });
      const first = charts.html(row, "td", { class: "tick-box" });
      const label = charts.html(first, "label");
      const box = charts.html(label, "input", { type: "checkbox",
        "aria-label": `show ${named(point)} in the charts` });
      box.checked = state.chosen.has(point.n);
      box.addEventListener("change", () => {
        choose(point.n);
        const again = table.querySelector(`tr[data-n="${point.n}"] input`);
        if (again) again.focus();
      });
      charts.html(label, "span", { class: "number" }, String(point.n));
      for (const column of columns) {
        const rests = few(point, column.id), text = cell(point, column);
        const long = isKey(column.id) && text.length > 24 ? " words" : "";
        if (rests === undefined || text === "–")
          charts.html(row, "td", { class: kind(column) + long }, text);
        else charts.html(row, "td", { class: rests < DATA.thin ? "thin" : "",
          title: `rests on ${number(rests, 2)} independent requests` }, `~${text}`);
      }
    }
    el("count").textContent = `${rows.length} of ${charts.count(DATA.points.length, "point")}`;
  };

  report.exported = () => {
    const columns = DATA.columns.filter((column) => column.id !== "state");
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [["point", ...columns.map(({ id }) => (isKey(id) ? DATA.keys[place(id)] : id)), "verdict"].join(",")];
    for (const point of ordered())
      lines.push([point.n, ...columns.map(({ id }) => quoted(String(isKey(id)
        ? point.values[place(id)] : metric(point, id) ?? ""))), point.state].join(","));
    const link = charts.html(null, "a", { download: `${DATA.name}.csv`,
      href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
})();
