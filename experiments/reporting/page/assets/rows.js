// Charts that lie: a row for each thing, its name above or beside it. Bars, intervals, stacks, bands.
"use strict";

(() => {
  const { frame, interactive, put, widthOf, svg, number, PARTS } = charts;
  const LETTER = 7.5, LINE = 14;

  function broken(name, most) {
    // A name in one line, or in two; what does not fit there is cut in its middle: ends differ.
    if (name.length <= most) return [name];
    const at = name.lastIndexOf(" ", most), first = name.slice(0, at > 0 ? at : most);
    const rest = name.slice(first.length).trim();
    return [first, rest.length <= most ? rest : `…${rest.slice(1 - most)}`];
  }

  function laid(box, options, bar) {
    // Names stand beside the rows where a third of the width holds them, else above.
    const width = Math.max(240, box.clientWidth || 320);
    const letters = (row) => row.name.length * (row.strong ? 1.15 : 1);
    const longest = Math.max(...options.rows.map(letters), 0) * LETTER + 16;
    const beside = longest < Math.max(width / 3, 150);
    const most = Math.floor((width - 32) / LETTER);
    const texts = options.rows.map(({ name }) => (beside ? [name] : broken(name, most)));
    const above = beside ? 5 : 8 + LINE * Math.max(1, ...texts.map((each) => each.length));
    const each = bar + above + (beside ? 5 : 6);
    const chart = frame(box, { ...options, y: null, left: beside ? longest : 12, right: 20,
      height: options.rows.length * each + 62 });
    const names = [];
    const tops = options.rows.map((row, place) => {
      const top = chart.inner.top + place * each + above;
      texts[place].forEach((text, line) => names.push(svg(chart.root, "text", {
        class: `row-name ${row.strong ? "strong" : ""}`,
        x: beside ? chart.inner.left - 8 : chart.inner.left, "text-anchor": beside ? "end" : "start",
        y: beside ? top + bar / 2 + 4 : top - 6 - LINE * (texts[place].length - 1 - line) }, text)));
      return top;
    });
    // Names stand before all lines that are drawn meanwhile.
    return { chart, tops, finished: () => chart.root.append(...names) };
  }

  const rect = (parent, kind, x1, x2, y, height) => svg(parent, "rect", { class: kind,
    x: Math.min(x1, x2).toFixed(1), width: Math.abs(x2 - x1).toFixed(1), y, height });

  function upright(chart, at, kind, text) {
    // A line across all rows: a limit, or where nothing changes.
    const { root, x, inner } = chart;
    if (!(x(at) >= inner.left - 1 && x(at) <= inner.right + 1)) return;
    svg(root, "line", { class: kind, x1: x(at), x2: x(at), y1: inner.top, y2: inner.bottom });
    if (!text) return;
    put(root, inner, [], [x(at), x(at) - widthOf(text)].map((left) => (
      { left, line: inner.bottom - 4, text })));
  }

  charts.bars = (box, options) => {
    // options.rows: {name, value, low, high, state, hollow, text, pick, strong}; bars from options.base; options.limits: {value, text, keep}
    const { chart, tops, finished } = laid(box, options, 16), { root, x } = chart;
    const base = options.base ?? options.x.domain[0];
    for (const { value, text, keep } of options.limits || [])
      upright(chart, value, keep === "beside" ? "level" : "limit", text);
    const marks = options.rows.map((row, place) => {
      const top = tops[place], group = svg(root, "g", { class: "stack" });
      rect(group, `bar-of ${row.state || "plain"} ${row.hollow ? "hollow" : ""}`, x(base),
        x(row.value), top, 16);
      if (Number.isFinite(row.low) && Number.isFinite(row.high)) {
        svg(group, "line", { class: "whisker", x1: x(row.low), x2: x(row.high), y1: top + 8,
          y2: top + 8 });
        for (const end of [row.low, row.high])
          svg(group, "line", { class: "whisker", x1: x(end), x2: x(end), y1: top + 4, y2: top + 12 });
      }
      return { x: x(row.value), y: top, text: row.text, pick: row.pick, node: group };
    });
    if (options.base !== undefined) upright(chart, options.base, "zero");
    finished();
    interactive({ ...chart, options: { ...options, byY: true } }, marks);
  };

  charts.stacks = (box, options) => {
    // options.rows: {name, parts: [value, …], text}
    const { chart, tops, finished } = laid(box, options, 20), { root, x } = chart;
    const marks = options.rows.map((row, place) => {
      const group = svg(root, "g", { class: "stack" });
      let left = 0;
      row.parts.forEach((value, kind) => {
        if (value > 0) rect(group, `part p${kind % PARTS}`, x(left), x(left + value), tops[place], 20);
        left += value || 0;
      });
      return { x: x(left), y: tops[place] + 10, text: row.text, pick: row.pick, node: group };
    });
    if (options.limit) upright(chart, options.limit.value, "limit", options.limit.text);
    finished();
    interactive({ ...chart, options: { ...options, byY: true } }, marks);
  };

  charts.bands = (box, options) => {
    // options.rows: {name, length, slices: [{from, to, parts: [share, …], text}]}, on one x axis
    const { chart, tops } = laid(box, options, 34), { root, x, inner } = chart;
    const inside = (at) => Math.min(inner.right, Math.max(inner.left, x(at)));
    const marks = options.rows.flatMap((row, place) => row.slices.map((slice) => {
      const group = svg(root, "g", { class: "stack" }), from = inside(slice.from);
      const to = inside(slice.to);
      if (to - from < 0.05) return null;
      let below = tops[place] + 34;
      slice.parts.forEach((share, kind) => {
        if (!(share > 0)) return;
        below -= 34 * share;
        const of = options.cells ? options.cells[kind] : "p" + (kind % PARTS);
        rect(group, `cell ${of}`, from, to, below.toFixed(1), (34 * share).toFixed(1));
      });
      return { x: (from + to) / 2, y: tops[place] + 17, text: slice.text, node: group };
    })).filter(Boolean);
    interactive({ ...chart, options: { ...options, reach: 40 } }, marks);
  };

  charts.shown = (draw) => {
    // Bars of a phone's browser change the height alone.
    draw();
    performance.mark("drawn");
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== width) draw();
      width = innerWidth;
    });
  };

  charts.sortable = (table) => {
    // A table that the page has whole: its headings sort it, by numbers where there are any.
    const value = (row, place) => {
      const text = row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
      const found = parseFloat(text.replace(/,/g, ""));
      return Number.isNaN(found) ? text : found;
    };
    [...table.querySelectorAll("thead th")].forEach((heading, place) => {
      heading.dataset.name = heading.textContent.trim();  // for paper, which repeats no buttons
      const button = charts.html(null, "button", { type: "button" }, heading.dataset.name);
      heading.textContent = "";
      heading.appendChild(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const each of table.querySelectorAll("thead th")) each.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [one, two] = [value(a, place), value(b, place)];
          const less = typeof one === typeof two
            ? (typeof one === "number" ? one - two : one.localeCompare(two))
            : (typeof one === "number" ? -1 : 1);
          return down ? -less : less;
        });
        table.tBodies[0].append(...rows);
      });
    });
  };
  charts.named = (names, values, unit) => names.map((name, place) => [name, values[place]])
    .filter(([, value]) => value > 0).map(([name, value]) => `${name} ${number(value, 3)}${unit}`)
    .join(", ");
})();
