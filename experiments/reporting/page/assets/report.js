// The report's buttons, and its first drawing.
"use strict";

(() => {
  const { DATA, el, state, restore, remember } = report;

  function choices(box, entries, now, take) {
    // Buttons of which one is pressed.
    if (!box) return;
    box.textContent = "";
    for (const [value, name] of entries) {
      const button = charts.html(box, "button", { type: "button",
        "aria-pressed": String(value === now()) }, name);
      button.addEventListener("click", () => {
        take(value);
        for (const each of box.children) each.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", "true");
        remember();
      });
    }
  }

  function controls() {
    choices(el("views"), DATA.views.map(({ id, name }) => [id, name]), () => state.view,
      (view) => { state.view = view; report.drawTable(); });
    choices(el("percents"), DATA.percents.map((percent, place) => [place, `p${percent}`]),
      () => state.percent, (place) => { state.percent = place; report.drawChosen(); });
    choices(el("spans"), DATA.spans.map(({ id, name }) => [id, name]),
      () => state.span, (span) => { state.span = span; report.drawChosen(); });
    const metrics = el("metrics");
    if (metrics) {
      metrics.textContent = "";
      for (const { metric, name } of DATA.differences.metrics)
        charts.html(metrics, "option", { value: metric }, name);
      metrics.value = state.metric;
    }
    el("filter").value = state.filter;
    el("filter").placeholder = example();
    if (el("kept")) el("kept").checked = state.kept;
  }

  function example() {
    // What a filter may look like here: a word of one swept key, a bound of another.
    const best = DATA.points.find(({ n }) => n === DATA.best).values, at = [...best.keys()];
    const word = at.find((place) => /^[a-z]/i.test(best[place]) && best[place].length < 20);
    const bound = at.find((place) => typeof best[place] === "number");
    return [word === undefined ? "" : best[word], bound === undefined ? ""
      : `${DATA.columns[bound].name}>=${best[bound]}`].filter(Boolean).join(" ");
  }

  function listen(id, kind, take) {
    if (el(id)) el(id).addEventListener(kind, () => { take(el(id)); remember(); });
  }

  function drawAll() {
    report.drawPareto();
    report.drawChosen();
  }

  listen("filter", "input", ({ value }) => { state.filter = value; report.drawTable(); });
  listen("kept", "change", ({ checked }) => { state.kept = checked; report.drawTable(); });
  listen("metrics", "change", ({ value }) => { state.metric = value; report.drawDifferences(); });
  el("csv").addEventListener("click", report.exported);
  for (const table of document.querySelectorAll("table.sortable")) charts.sortable(table);
  restore();
  controls();
  report.drawTable();
  drawAll();
  performance.mark("drawn");
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawAll();
  });
  window.addEventListener("hashchange", () => {
    restore();
    controls();
    report.drawTable();
    drawAll();
  });
})();
