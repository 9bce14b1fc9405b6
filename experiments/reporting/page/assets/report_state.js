// The report of a study: its data, what is looked at, and how a point looks. Others draw it.
"use strict";

const report = (() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const el = (id) => document.getElementById(id);
  const number = charts.number;
  const STATES = { kept: "keeps the limits", missed: "misses the limits",
    undecided: "not certain with these seeds", saturated: "saturated", none: "" };
  const MOST_CHOSEN = 8, LAST = DATA.percents.indexOf(DATA.tails.ttft);
  const columns = new Map(DATA.columns.map((column) => [column.id, column]));
  const spans = DATA.spans.map(({ id }) => id);

  // ---- the address remembers what is looked at

  const state = { view: DATA.views[0].id, sort: null, down: false, filter: "", kept: false,
    percent: LAST, span: spans[0], metric: DATA.differences && DATA.differences.first,
    chosen: new Set(), zoom: null };

  function restore() {
    const words = new URLSearchParams(location.hash.slice(1));
    const given = (words.get("points") || "").split(",").map(Number)
      .filter((n) => DATA.points.some((point) => point.n === n));
    state.chosen = new Set(given.length ? given : DATA.chosen);
    if (DATA.views.some((view) => view.id === words.get("view"))) state.view = words.get("view");
    state.filter = words.get("filter") || "";
    state.kept = words.get("kept") === "1";
    if (columns.has(words.get("sort"))) {
      state.sort = words.get("sort");
      state.down = words.get("down") === "1";
    }
    const percent = DATA.percents.indexOf(Number(words.get("p")));
    if (percent >= 0) state.percent = percent;
    if (spans.includes(words.get("span"))) state.span = words.get("span");
    if (DATA.differences && DATA.differences.metrics.some((each) =>
      each.metric === words.get("differences"))) state.metric = words.get("differences");
  }

  function remember() {
    const words = new URLSearchParams();
    words.set("points", [...state.chosen].sort((a, b) => a - b).join(","));
    if (state.view !== DATA.views[0].id) words.set("view", state.view);
    if (state.filter) words.set("filter", state.filter);
    if (state.kept) words.set("kept", "1");
    if (state.sort) { words.set("sort", state.sort); if (state.down) words.set("down", "1"); }
    if (state.percent !== LAST) words.set("p", String(DATA.percents[state.percent]));
    if (state.span !== spans[0]) words.set("span", state.span);
    if (DATA.differences && state.metric !== DATA.differences.first)
      words.set("differences", state.metric);
    history.replaceState(null, "", `#${words}`);
  }

  // ---- a figure of a point: its value, and the ends of its interval where there are some

  function figure(point, id) {
    const found = columns.has(id) ? point.m[columns.get(id).m] : null;
    return Array.isArray(found) ? found : [found ?? null];
  }
  // The percentile of a latency that is looked at, and a limit: its own, or that of every request.
  const tail = (latency) => `${latency}_p${DATA.tails[latency]}_s`;
  const limitOf = (id) => DATA.limits[id] ?? DATA.limits[id.replace(/_p\d+_s$/, "_s")];
  const metric = (point, id) => figure(point, id)[0];
  // How many independent requests a percentile rests on, where these are few.
  function few(point, id) {
    const found = point.few || [];
    for (let at = 0; at < found.length; at += 2)
      if (found[at] === (columns.get(id) || {}).m) return found[at + 1];
    return undefined;
  }
  const named = (point) => point.label || "the study";
  // Where several are shown, the number that the table has beside its tick.
  const numbered = (point) => (point.label ? `${point.n}: ${point.label}` : "the study");
  const inMs = (value) => `${number(value, 3)} ms`;

  // ---- how a point looks: by what it is. Colour and shape are those of its group.

  const groupLook = ({ group }) => charts.look(group);
  const alike = DATA.points.map((point) =>
    DATA.points.filter((each) => each.group === point.group && each.n < point.n).length);
  const pointLook = (point) => DATA.keys.length
    ? { ...groupLook(point), dash: groupLook(point).dash + alike[point.n - 1] } : groupLook(point);
  const groupOf = (line) => DATA.points.find((point) => point.line === line).group;
  function lineLook(line) {
    const own = charts.look(groupOf(line));
    const before = DATA.lines.filter((_, each) => each < line && groupOf(each) === groupOf(line));
    return { ...own, dash: own.dash + before.length };
  }

  function describe(point) {
    const facts = [named(point)];
    const price = metric(point, "usd_per_million_output_tokens");
    if (price !== null) facts.push(`USD ${number(price)} per million output tokens`);
    for (const latency of ["ttft", "tpot"]) {
      const value = metric(point, tail(latency));
      if (value !== null)
        facts.push(`${latency.toUpperCase()} p${DATA.tails[latency]} ${inMs(value * 1000)}`);
    }
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
    report.drawChosen();
    report.drawPareto();
    report.drawTable();
  }

  const chosen = () => DATA.points.filter((point) => state.chosen.has(point.n));

  return { DATA, STATES, el, state, restore, remember, columns, figure, metric, named,
    numbered, inMs, tail, limitOf, groupLook, pointLook, lineLook, few, describe, choose, chosen };
})();
