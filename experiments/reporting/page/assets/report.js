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
    // What a filter may look like here, by the values of the best point.
    const best = DATA.points[DATA.best - 1].values.map((value, place) =>
      (typeof value === "number" ? `${DATA.columns[place].name}>=${value}` : String(value)));
    return best.filter((text) => text.length < 24).slice(0, 2).join(" ");
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
  charts.shown(drawAll);
  addEventListener("hashchange", () => {
    restore();
    controls();
    report.drawTable();
    drawAll();
  });
})();
