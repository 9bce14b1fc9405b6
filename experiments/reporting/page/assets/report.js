// The report of a study: one set of points, seen as cards, charts and a table that know each other.
"use strict";

(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const MS = (value) => number(value * 1000);
  const el = (id) => document.getElementById(id);
  const STATES = { kept: "keeps the limits", missed: "misses the limits",
    undecided: "not certain with these seeds", saturated: "saturated", none: "" };
  const MOST_CHOSEN = 8;

  function number(value, digits) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (value === 0) return "0";
    const rounded = Number(value.toPrecision(digits || 4));
    return Math.abs(rounded) >= 1000 ? Math.round(rounded).toLocaleString("en-US")
      : String(rounded);
  }

  const state = { view: DATA.views[0].id, sort: null, down: false, filter: "", kept: false,
    percent: 3, chosen: new Set(), zoom: null };

  // ---- the address remembers what is looked at

  function restore() {
    const words = new URLSearchParams(location.hash.slice(1));
    const given = (words.get("points") || "").split(",").map(Number)
      .filter((n) => DATA.points.some((point) => point.n === n));
    state.chosen = new Set(given.length ? given : DATA.chosen);
    if (DATA.views.some((view) => view.id === words.get("view"))) state.view = words.get("view");
    state.filter = words.get("filter") || "";
    state.kept = words.get("kept") === "1";
    if (DATA.columns.some((column) => column.id === words.get("sort"))) {
      state.sort = words.get("sort");
      state.down = words.get("down") === "1";
    }
    const percent = Number(words.get("p"));
    if (words.has("p") && percent >= 0 && percent < 4) state.percent = percent;
  }

  function remember() {
    const words = new URLSearchParams();
    words.set("points", [...state.chosen].sort((a, b) => a - b).join(","));
    if (state.view !== DATA.views[0].id) words.set("view", state.view);
    if (state.filter) words.set("filter", state.filter);
    if (state.kept) words.set("kept", "1");
    if (state.sort) { words.set("sort", state.sort); if (state.down) words.set("down", "1"); }
    if (state.percent !== 3) words.set("p", String(state.percent));
    history.replaceState(null, "", `#${words}`);
  }

  // ---- how a point looks: by what it is

  const combination = (point) => point.values.slice(0, DATA.axis === null ? undefined : -1);
  const combinations = [...new Map(DATA.points.map((point) =>
    [JSON.stringify(combination(point)), combination(point)])).values()];
  function seriesLook(values) {
    const place = combinations.findIndex((each) => JSON.stringify(each) === JSON.stringify(values));
    return { colour: place, dash: place, shape: charts.SHAPES[place % 4] };
  }
  const firstLook = ({ first }) => ({ colour: first, shape: charts.SHAPES[first % 4], dash: 0 });
  const pointLook = (point) => ({ colour: point.n - 1, dash: (point.n - 1) >> 2,
    shape: charts.SHAPES[(point.n - 1) % 4] });
  const metric = (point, name) => (point.m[name] || [null])[0];

  function describe(point) {
    const facts = [point.label || "the study"];
    const price = metric(point, "usd_per_million_output_tokens");
    if (price !== null) facts.push(`USD ${number(price)} per million output tokens`);
    if (metric(point, "ttft_p99_s") !== null)
      facts.push(`TTFT p99 ${MS(metric(point, "ttft_p99_s"))} ms`);
    facts.push(`TPOT p99 ${MS(metric(point, "tpot_p99_s"))} ms`);
    if (STATES[point.state]) facts.push(STATES[point.state]);
    return facts.join(" · ");
  }

  function choose(n) {
    if (state.chosen.has(n)) state.chosen.delete(n);
    else {
      if (state.chosen.size >= MOST_CHOSEN) state.chosen.delete([...state.chosen][0]);
      state.chosen.add(n);
    }
    remember();
    drawChosen();
    drawPareto();
    drawTable();
  }

  // ---- cost against speed

  function drawPareto() {
    const box = el("pareto");
    if (!box) return;
    const points = DATA.points.map((point) => {
      const tpot = metric(point, "tpot_p50_s");
      return { x: tpot ? 1 / tpot : NaN, y: metric(point, "usd_per_million_output_tokens"),
        look: firstLook(point), state: point.state, text: describe(point), n: point.n,
        pick: () => choose(point.n), chosen: state.chosen.has(point.n) };
    }).filter((each) => each.x > 0 && each.y > 0);
    const good = points.filter((each) => each.state === "kept").sort((a, b) => b.x - a.x);
    const best = [];
    for (const each of good) if (!best.length || each.y < best[best.length - 1].y) best.push(each);
    const cheapest = best[best.length - 1];
    charts.scatter(box, {
      id: "pareto", label: "Price against the speed of one user", height: box.clientWidth < 480
        ? 270 : 360, points, best, reach: 24,
      named: cheapest && { x: cheapest.x, y: cheapest.y, text: "cheapest that keeps the limits" },
      x: { domain: [0, charts.domain(points.map((each) => each.x), false, true)[1]], log: false,
        text: (at) => number(at), title: "tokens per second of one user (1 / median TPOT)" },
      y: { domain: charts.domain(points.map((each) => each.y), true), log: true,
        text: (at) => number(at, 3), title: "USD per million output tokens" },
    });
    charts.legend(el("pareto-legend"), DATA.firsts.map((name, place) => ({ name,
      look: { colour: place, shape: charts.SHAPES[place % 4], dash: 0 } })));
  }

  // ---- against the load

  function drawLoad() {
    const box = el("load");
    if (!box || DATA.axis === null) return;
    const at = (point) => Number(point.values[point.values.length - 1]);
    const xs = DATA.points.map(at);
    const log = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 8;
    const x = { domain: charts.domain(xs, log, false, !log), log, text: (value) => number(value),
      ticks: new Set(xs).size <= 8 ? [...new Set(xs)].sort((a, b) => a - b) : undefined,
      title: DATA.axis };
    for (const [id, name, scale, title, isLog] of [
      ["load-ttft", "ttft_p99_s", 1000, "TTFT p99, ms", true],
      ["load-tpot", "tpot_p99_s", 1000, "TPOT p99, ms", true],
      ["load-within", "slo_attainment", 100, "% of requests within the limits", false]]) {
      const target = el(id);
      if (!target) continue;
      const limit = DATA.limits[name];
      const series = combinations.map((values) => ({
        name: values.join(", "), look: seriesLook(values),
        points: DATA.points.filter((point) => JSON.stringify(combination(point))
          === JSON.stringify(values) && (point.state !== "saturated" || !isLog))
          .filter((point) => metric(point, name) !== null).map((point) => ({
            x: at(point), y: point.m[name][0] * scale,
            low: (point.m[name][1] ?? NaN) * scale, high: (point.m[name][2] ?? NaN) * scale,
            text: `${point.label} · ${title}: ${number(point.m[name][0] * scale)}`,
          })).sort((a, b) => a.x - b.x),
      }));
      const all = series.flatMap((each) => each.points.map((point) => point.y));
      if (limit !== undefined) all.push(limit * scale);
      charts.lines(target, { id, label: `${title} against ${DATA.axis}`, series, x,
        y: { domain: isLog ? charts.domain(all, true) : [0, 100], log: isLog,
          text: (value) => number(value, 3), title },
        limit: limit === undefined ? null : { value: limit * scale, keep: isLog ? "below" : "above",
          text: isLog ? `limit ${number(limit * scale)}` : `wanted ${number(limit * scale)}` } });
    }
    charts.legend(el("load-legend"), combinations.map((values) => ({
      name: values.join(", ") || "the study", look: seriesLook(values) })));
  }

  // ---- the chosen points: where TTFT goes, over time, distributions

  function drawChosen() {
    const chosen = DATA.points.filter((point) => state.chosen.has(point.n));
    drawSplit(chosen);
    drawTime(chosen);
    drawDistributions(chosen);
    const entries = chosen.map((point) => ({ name: point.label || "the study",
      look: pointLook(point), on: true, toggle: () => choose(point.n) }));
    for (const id of ["time-legend", "cdf-legend"]) if (el(id)) charts.legend(el(id), entries);
    const told = el("chosen");
    if (told) told.textContent = chosen.length
      ? `Shown: ${chosen.map((point) => point.label || "the study").join("; ")}.`
      : "No point is chosen: tick some in the table.";
  }

  function drawSplit(chosen) {
    const box = el("split");
    if (!box) return;
    const shown = chosen.filter((point) => point.split && point.state !== "saturated");
    const bars = shown.map((point) => {
      const values = point.split[state.percent];
      return { name: String(point.n), parts: values.map((value) => ({ value: value * 1000 })),
        text: `${point.label} · ${DATA.parts.map((name, kind) =>
          `${name} ${number(values[kind] * 1000)} ms`).join(", ")}` };
    });
    const sums = bars.map((bar) => bar.parts.reduce((sum, part) => sum + part.value, 0));
    const limit = DATA.limits.ttft_p99_s;
    charts.stacked(box, { id: "split", label: "Where the time to first token goes", bars,
      limit: limit === undefined ? null : { value: limit * 1000, text: `limit ${MS(limit)}` },
      x: { domain: [0, 1], log: false, ticks: [], text: String, title: "point of the table" },
      y: { domain: charts.domain(sums, false, true), log: false, text: (at) => number(at, 3),
        title: `ms, requests around p${DATA.percents[state.percent]}` } });
    charts.legend(el("split-legend"), DATA.parts.map((name, part) => ({ name, part })));
  }

  function drawTime(chosen) {
    const panes = [["time-rate", "rate", 1, "arrivals per second", false],
      ["time-ttft", "ttft", 1000, "TTFT p99, ms", true],
      ["time-within", "within", 100, "% within the limits", false]];
    // Hours where the clock means something, else shares of a run: runs differ in length.
    const hours = DATA.days;
    const length = (point) => hours ? point.time.end / 3600 : 100;
    const whole = [0, Math.max(1e-9, ...chosen.map(length))];
    const zoom = (range) => {
      state.zoom = range && [Math.max(0, range[0]), Math.min(whole[1], range[1])];
      drawTime(chosen);
    };
    for (const [id, name, scale, title, log] of panes) {
      const box = el(id);
      if (!box) continue;
      const focused = box.contains(document.activeElement);
      const series = chosen.map((point) => ({ name: point.label, look: pointLook(point),
        points: point.time[name].map((value, place) => ({
          x: length(point) * (place + 0.5) / point.time[name].length,
          y: value === null ? NaN : value * scale,
          text: `${point.label} · ${title}: ${value === null ? "–" : number(value * scale)}` })) }));
      const all = series.flatMap((each) => each.points.map((point) => point.y));
      charts.lines(box, { id, label: `${title} over time`, series, plain: true, height: 190,
        byX: false, zoom,
        x: { domain: state.zoom || whole, log: false, text: (at) => number(at, 3),
          title: hours ? "hours" : "% of the run" },
        y: { domain: name === "within" ? [0, 100] : charts.domain(all, log, !log), log,
          text: (at) => number(at, 3), title },
        limit: name === "ttft" && DATA.limits.ttft_p99_s !== undefined
          ? { value: DATA.limits.ttft_p99_s * 1000, text: "limit", keep: "below" } : null });
      if (focused) box.querySelector("svg").focus();
    }
  }

  function drawDistributions(chosen) {
    for (const [id, name, title] of [["cdf-ttft", "ttft", "TTFT, ms"],
      ["cdf-tpot", "tpot", "TPOT, ms"]]) {
      const box = el(id);
      if (!box) continue;
      const series = chosen.filter((point) => point.q[name]).map((point) => ({ name: point.label,
        look: pointLook(point), points: point.q[name].map((value, place) => ({
          x: value * 1000, y: DATA.ranks[place] * 100,
          text: `${point.label} · ${number(DATA.ranks[place] * 100)}% within ${MS(value)} ms` })) }));
      const all = series.flatMap((each) => each.points.map((point) => point.x));
      charts.lines(box, { id, label: `Distribution of ${title}`, series, plain: true,
        x: { domain: charts.domain(all, true), log: true, text: (at) => number(at, 3), title },
        y: { domain: [0, 100], log: false, text: (at) => number(at), title: "% at or below" } });
    }
  }

  // ---- the table

  const shownColumns = () => DATA.columns.filter((column) =>
    state.view === "all" || column.views.includes(state.view));

  function matches(point) {
    if (state.kept && point.state !== "kept") return false;
    return state.filter.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
      const asked = word.match(/^([a-z0-9_.]+)(>=|<=|=|>|<)(.+)$/);
      const place = asked ? DATA.keys.findIndex((key) => key.toLowerCase().endsWith(asked[1])) : -1;
      if (place < 0) return point.label.toLowerCase().includes(word);
      const value = point.values[place], wanted = asked[3];
      if (asked[2] === "=") return String(value).toLowerCase() === wanted;
      const [a, b] = [Number(value), Number(wanted)];
      return { ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b }[asked[2]];
    });
  }

  function ordered() {
    const points = DATA.points.filter(matches);
    if (!state.sort) {
      const place = new Map(DATA.order.map((n, index) => [n, index]));
      return points.sort((a, b) => place.get(a.n) - place.get(b.n));
    }
    const value = (point) => state.sort.startsWith("key:")
      ? point.values[Number(state.sort.slice(4))] : metric(point, state.sort);
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
    if (column.id.startsWith("key:")) return String(point.values[Number(column.id.slice(4))]);
    if (column.id === "state") return STATES[point.state];
    const found = point.m[column.id];
    if (!found || found[0] === null) return "–";
    const [value, low, high] = found.map((each) =>
      each === null || each === undefined ? null : each * column.scale);
    if (low === null || high === null || low === undefined) return number(value);
    const half = (high - low) / 2;
    if (Math.abs((high + low) / 2 - value) <= 0.1 * half + 1e-12)
      return `${number(value)} ±${number(half, 2)}`;
    return `${number(value)} (${number(low, 3)} to ${number(high, 3)})`;
  }

  function drawTable() {
    const table = el("points"), columns = shownColumns(), rows = ordered();
    table.textContent = "";
    const head = charts.html(charts.html(table, "thead"), "tr");
    charts.html(head, "th", { scope: "col", class: "tick-box" }, "shown");
    for (const column of columns) {
      const sorted = state.sort === column.id;
      const heading = charts.html(head, "th", { scope: "col",
        "aria-sort": sorted ? (state.down ? "descending" : "ascending") : "none",
        class: column.id.startsWith("key:") ? "text" : "" });
      const button = charts.html(heading, "button", { type: "button", title: column.about || "" },
        column.name);
      button.addEventListener("click", () => {
        state.down = sorted ? !state.down : false;
        state.sort = column.id;
        remember();
        drawTable();
        table.querySelectorAll("th button")[columns.indexOf(column)].focus();
      });
    }
    const body = charts.html(table, "tbody");
    for (const point of rows) {
      const row = charts.html(body, "tr", { class: point.state, "data-n": point.n });
      const first = charts.html(row, "td", { class: "tick-box" });
      const label = charts.html(first, "label");
      const box = charts.html(label, "input", { type: "checkbox",
        "aria-label": `show ${point.label || "the study"} in the charts` });
      box.checked = state.chosen.has(point.n);
      box.addEventListener("change", () => {
        choose(point.n);
        const again = table.querySelector(`tr[data-n="${point.n}"] input`);
        if (again) again.focus();
      });
      charts.html(label, "span", { class: "number" }, String(point.n));
      for (const column of columns)
        charts.html(row, "td", { class: column.id.startsWith("key:") || column.id === "state"
          ? "text" : "" }, cell(point, column));
    }
    el("count").textContent = `${rows.length} of ${DATA.points.length} points`;
  }

  function exported() {
    const columns = DATA.columns.filter((column) => column.id !== "state");
    const quoted = (text) => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const lines = [["point", ...columns.map((column) => column.key), "verdict"].join(",")];
    for (const point of ordered())
      lines.push([point.n, ...columns.map((column) => quoted(String(column.id.startsWith("key:")
        ? point.values[Number(column.id.slice(4))] : metric(point, column.id) ?? ""))),
      point.state].join(","));
    const link = charts.html(null, "a", { download: `${DATA.name}.csv`,
      href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function controls() {
    for (const view of DATA.views) {
      const button = charts.html(el("views"), "button", { type: "button" }, view.name);
      const press = () => button.setAttribute("aria-pressed", String(state.view === view.id));
      press();
      button.addEventListener("click", () => {
        state.view = view.id;
        for (const each of el("views").children) each.setAttribute("aria-pressed", "false");
        press();
        remember();
        drawTable();
      });
    }
    const filter = el("filter"), kept = el("kept");
    filter.value = state.filter;
    filter.addEventListener("input", () => { state.filter = filter.value; remember(); drawTable(); });
    if (kept) {
      kept.checked = state.kept;
      kept.addEventListener("change", () => { state.kept = kept.checked; remember(); drawTable(); });
    }
    el("csv").addEventListener("click", exported);
    const percents = el("percents");
    if (percents) DATA.percents.forEach((percent, place) => {
      const button = charts.html(percents, "button", { type: "button" }, `p${percent}`);
      button.setAttribute("aria-pressed", String(place === state.percent));
      button.addEventListener("click", () => {
        state.percent = place;
        for (const each of percents.children) each.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", "true");
        remember();
        drawChosen();
      });
    });
  }

  function drawAll() { drawPareto(); drawLoad(); drawChosen(); }

  restore();
  controls();
  drawTable();
  drawAll();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawAll();
  });
  window.addEventListener("hashchange", () => { restore(); drawTable(); drawAll(); });
})();
