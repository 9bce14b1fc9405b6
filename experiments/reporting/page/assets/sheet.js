// A page of sections: its figures are plain data, its tables can be sorted.
"use strict";

(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const el = (id) => document.getElementById(id);
  const number = charts.number;
  const word = (axis) => (at) => `${number(at, 3)}${axis.unit}`;
  const look = (row) => ({ ...charts.look(row.look), dash: row.dash });

  function axis(given, values) {
    return { log: given.log, title: given.title, text: word(given),
      whole: values.every((value) => !Number.isFinite(value) || Number.isInteger(value)),
      ticks: given.ticks.length ? given.ticks : undefined,
      domain: given.domain || charts.domain(values, given.log, given.zero) };
  }

  function drawLines(box, figure, place) {
    const points = figure.rows.flatMap((row) => row.points);
    const ys = points.flatMap(([, y, low, high]) => [y, low, high])
      .concat(figure.limits.map(({ value }) => value));
    const spans = figure.rows.filter((row) => row.span).map((row) => {
      const [at, low, high, text] = row.span;
      return { at, low: low ?? NaN, high: high ?? NaN, text, look: look(row) };
    });
    const xs = points.map(([x]) => x).concat(spans.flatMap(({ at, low, high }) => [at, low, high]));
    charts.lines(box, { id: `figure-${place}`, label: figure.label, spans,
      x: axis(figure.x, xs), y: axis(figure.y, ys.filter((value) => value !== null)),
      limits: figure.limits,
      plain: points.length > 40 * figure.rows.length / 2 && points.length > 40
        && !figure.rows.some((row) => row.loose),
      series: figure.rows.map((row) => ({ name: row.name, look: look(row), loose: row.loose,
        hollow: row.hollow,
        points: row.points.map(([x, y, low, high]) => ({ x, y: y ?? NaN, low: low ?? NaN,
          high: high ?? NaN, text: (row.name ? row.name + " · " : "") + `${figure.x.title} ${
            word(figure.x)(x)}: ${figure.y.title} ${word(figure.y)(y)}` })) })) });
    const entries = figure.rows.length > 1 ? figure.rows.map((row) =>
      ({ name: row.name, look: look(row), hollow: row.hollow })) : [];
    if (entries.length) charts.legend(legendOf(place), entries);
  }

  // Figures that stand together and show the same have one legend.
  const shown = (figure) => JSON.stringify(figure.rows.map(({ name, look, dash }) => [name, look, dash]));
  function legendOf(place) {
    const grid = el(`figure-${place}`).parentNode.parentNode;
    const places = [...grid.querySelectorAll(".chart")].map((box) => Number(box.id.slice(7)));
    const alike = places.length > 1
      && places.every((each) => shown(DATA.figures[each]) === shown(DATA.figures[place]));
    return el(alike ? `legend-of-${places[0]}` : `legend-${place}`);
  }

  function drawBars(box, figure, place) {
    const ends = figure.rows.flatMap((row) => [row.value, row.low, row.high])
      .concat(figure.limits.map(({ value }) => value), figure.base ?? [])
      .filter((value) => value !== null);
    const low = Math.min(...ends), high = Math.max(...ends), margin = (high - low || 1) * 0.04;
    const x = axis(figure.x, ends);
    if (!figure.x.domain && !figure.x.log && figure.base !== null)
      x.domain = [low < figure.base ? low - margin : figure.base, high + margin];
    charts.bars(box, { id: `figure-${place}`, label: figure.label, x, reach: 22,
      base: figure.base ?? undefined, limits: figure.limits,
      rows: figure.rows.map((row) => ({ ...row, low: row.low ?? NaN, high: row.high ?? NaN,
        text: row.text || `${row.name}: ${word(figure.x)(row.value)}` })) });
  }

  function drawStacks(box, figure, place) {
    const sums = figure.rows.map(({ parts }) => parts.reduce((sum, part) => sum + part, 0));
    charts.stacks(box, { id: `figure-${place}`, label: figure.label, x: axis(figure.x, sums),
      rows: figure.rows.map(({ name, parts }) => ({ name, parts,
        text: `${name}: ${charts.named(figure.names, parts, figure.x.unit)}` })) });
    charts.legend(el(`legend-${place}`), figure.names.map((name, part) => ({ name, part })));
  }

  function drawBands(box, figure, place) {
    const names = figure.names.map((name) => name.split(":"));
    const ends = figure.rows.flatMap((row) => row.slices.flatMap(([from, to]) => [from, to]));
    charts.bands(box, { id: `figure-${place}`, label: figure.label, cells: names.map(([cell]) => cell),
      x: { ...axis(figure.x, ends), domain: [Math.min(...ends), Math.max(...ends)] },
      rows: figure.rows.map((row) => ({ name: row.name, slices: row.slices.map(([from, to, kind]) => ({
        from, to, parts: names.map((_, each) => (each === kind ? 1 : 0)),
        text: `${row.name} · ${word(figure.x)(from)} to ${word(figure.x)(to)} ${figure.x.title}: ${
          names[kind][1]}` })) })) });
    const legend = el(`legend-${place}`);
    legend.textContent = "";
    const there = new Set(figure.rows.flatMap((row) => row.slices.map(([, , kind]) => kind)));
    for (const [cell, text] of names.filter((_, kind) => there.has(kind))) {
      const key = charts.html(legend, "span", { class: "key" });
      charts.html(key, "i", { class: `swatch ${cell}` });
      charts.html(key, "span", {}, text);
    }
  }

  const kinds = { lines: drawLines, bars: drawBars, stacks: drawStacks, bands: drawBands };
  const drawAll = () => DATA.figures.forEach((figure, place) =>
    kinds[figure.kind](el(`figure-${place}`), figure, place));
  for (const table of document.querySelectorAll("table.sortable")) charts.sortable(table);
  charts.shown(drawAll);
})();
