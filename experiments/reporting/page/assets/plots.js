// Charts with two axes: scatter, lines; and the legend of all charts.
"use strict";

(() => {
  const { frame, interactive, limit, limitText, put, widthOf, mark, colourOf, svg, html, DASHES,
    PARTS } = charts;

  function scatter(box, options) {
    // options.points: {x, y, look, size, state: kept | missed | saturated | undecided, text, pick}
    const chart = frame(box, options), { root, x, y } = chart;
    if (options.best && options.best.length > 1)
      svg(root, "path", { class: "best", d: "M" + options.best.map((each) =>
        `${x(each.x).toFixed(1)} ${y(each.y).toFixed(1)}`).join("L") });
    const marks = options.points.filter((each) => each.x > 0 && each.y > 0).map((each) => {
      const look = each.state === "saturated" ? { ...each.look, shape: "cross" } : each.look;
      const hollow = each.state === "missed" || each.state === "undecided";
      const node = mark(root, look, x(each.x), y(each.y), each.size || 6, hollow);
      if (each.chosen) svg(root, "circle", { class: "ring", cx: x(each.x), cy: y(each.y), r: 11 });
      return { x: x(each.x), y: y(each.y), text: each.text, pick: each.pick, node };
    });
    if (options.named) name(chart, marks, options.named);
    interactive(chart, marks);
  }

  function name({ root, x, y, inner }, marks, { x: at, y: up, text, short }) {
    // A text beside a mark.
    const places = [text, short || text].flatMap((text) => [[6, 18, 0], [6, -10, 0], [-6, 18, 1],
      [-6, -10, 1], [0, 24, 0.5], [0, -16, 0.5]].map(([right, down, share]) => (
      { left: x(at) + right - widthOf(text) * share, line: y(up) + down, text })));
    put(root, inner, [...marks], places, "named");
  }

  function lines(box, options) {
    // options.series: {name, look, points: {x, y, low, high, text}, pick, tag, faint}
    // options.spans: {low, high, at, look, text}, intervals on the x axis.
    const chart = frame(box, options), { root, x, y, inner } = chart;
    const spans = options.spans || [];
    for (const each of spans) span(chart, each);
    const limits = (options.limits || [options.limit]).filter(Boolean);
    for (const each of limits) limit(chart, each.value, each.keep);
    const clip = `clip-${options.id}`;
    const hole = svg(root, "clipPath", { id: clip });
    svg(hole, "rect", { x: inner.left, y: inner.top, width: inner.right - inner.left,
      height: inner.bottom - inner.top });
    const layer = svg(root, "g", { "clip-path": `url(#${clip})` });
    const marks = [];
    for (const each of [...options.series].sort((a, b) => !a.faint - !b.faint)) {
      const dash = DASHES[each.look.dash % DASHES.length];
      let path = "", open = false;
      for (const point of each.points) {
        if (!y.has(point.y)) { open = false; continue; }
        path += `${open ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
        open = true;
      }
      if (!each.loose) svg(layer, "path", { d: path,
        class: each.faint ? "line faint" : `line ${colourOf(each.look)}`,
        "stroke-dasharray": dash });
      if (each.faint) continue;
      for (const point of each.points) {
        if (!y.has(point.y) || point.x < x.domain[0] || point.x > x.domain[1]) continue;
        if (Number.isFinite(point.low)) {
          const low = Math.max(point.low, y.domain[0]);
          svg(layer, "line", { class: `bar ${colourOf(each.look)}`, x1: x(point.x),
            x2: x(point.x), y1: y(low), y2: y(point.high) });
        }
        const node = options.plain ? null
          : mark(layer, each.look, x(point.x), y(point.y), 4, each.hollow || point.hollow);
        marks.push({ x: x(point.x), y: y(point.y), text: point.text, pick: each.pick, node });
      }
      if (options.plain) each.points.forEach((point, place) => {
        // What has no neighbour is no line: a dot.
        const near = [each.points[place - 1], each.points[place + 1]];
        if (Number.isFinite(point.y) && !near.some((one) => one && Number.isFinite(one.y)))
          mark(layer, each.look, x(point.x), y(point.y), 3);
      });
    }
    if (options.peak) name(chart, marks, options.peak);
    const covered = [...marks, ...options.series.flatMap((each) =>
      between(each.points, x, y, spans.length ? 60 : 5))];
    for (const { at } of spans)
      for (let down = inner.top; down < inner.bottom; down += 7) covered.push({ x: x(at), y: down });
    const free = covered.length;
    for (const each of limits) limitText(chart, each.value, each.text, covered);
    for (const each of spans) spanText(chart, each, covered);
    covered.tags = covered.slice(free);
    for (const each of options.series) if (each.tag) tag(chart, each, options.series, covered);
    interactive(chart, marks);
  }

  function tag({ root, x, y, inner }, series, all, covered) {
    // What a line is called, in its colour, at whichever of its points is furthest from the others.
    const place = (each) => each.points.filter((one) => y.has(one.y)).map((one) => ({ x: x(one.x), y: y(one.y) }))
      .filter((one) => one.x >= inner.left && one.x <= inner.right);
    const others = all.filter((each) => each !== series).flatMap(place);
    const width = 7.2 * series.tag.length;
    let found = null;
    for (const at of place(series)) {
      if (at.x + 4 + width > inner.right) continue;
      for (const up of [-5, 13]) {
        const [cx, cy] = [at.x + 4 + width / 2, at.y + up - 4];
        if (cy < inner.top + 5 || cy > inner.bottom - 5) continue;
        const near = (one) => Math.hypot(one.x - cx, one.y - cy);
        const over = covered.tags.some(({ x, y, width: w = 8 }) => Math.abs(y - cy) < 13
          && 2 * Math.abs(x - cx) < width + w + 4);
        const free = over ? -1 : Math.min(60, ...others.map(near), ...covered.tags.map(near));
        if (!found || free > found.free + 1) found = { free, x: cx, y: cy, width };
      }
    }
    if (!found) return;
    covered.tags.push(found);
    svg(root, "text", { class: `tag ${colourOf(series.look)}`, x: found.x - width / 2,
      y: found.y + 4 }, series.tag);
  }

  function between(points, x, y, parts) {
    // Places on the line through points, for what is not to be written over.
    const shares = Array.from({ length: parts - 1 }, (_, part) => (part + 1) / parts);
    return points.slice(1).flatMap((point, place) => shares.map((share) => ({
      x: x(points[place].x) * (1 - share) + x(point.x) * share,
      y: y(points[place].y) * (1 - share) + y(point.y) * share })));
  }

  function span({ root, x, inner }, { low, high, at, look }) {
    const colour = colourOf(look);
    if (Number.isFinite(low) && Number.isFinite(high))
      svg(root, "rect", { class: `span ${colour}`, x: x(low), width: Math.max(1, x(high) - x(low)),
        y: inner.top, height: inner.bottom - inner.top });
    svg(root, "line", { class: `at ${colour}`, x1: x(at), x2: x(at), y1: inner.top,
      y2: inner.bottom });
  }

  function spanText({ root, x, inner }, { at, text }, marks) {
    // What an interval says, beside its line, as high as it can be.
    const places = [];
    for (let line = inner.top + 12; line < inner.bottom; line += 7)
      places.push({ left: x(at), line, text }, { left: x(at) - widthOf(text), line, text });
    put(root, inner, marks, places);
  }

  function legend(box, entries) {
    // entries: {name, look | part, hollow, on, toggle}
    const held = [...box.children].indexOf(document.activeElement);
    box.textContent = "";
    for (const each of entries) {
      const button = each.toggle ? html(box, "button", { type: "button", class: "key",
        "aria-pressed": String(each.on !== false) }) : html(box, "span", { class: "key" });
      const icon = svg(button, "svg", { width: 28, height: 14, "aria-hidden": "true" });
      if (each.look) {
        svg(icon, "line", { class: `line ${colourOf(each.look)}`, x1: 0, x2: 28, y1: 7,
          y2: 7, "stroke-dasharray": DASHES[each.look.dash % DASHES.length] });
        mark(icon, each.look, 14, 7, 4, each.hollow);
      } else svg(icon, "rect", { class: `part p${each.part % PARTS}`, x: 4, y: 1, width: 20, height: 12 });
      html(button, "span", {}, each.name);
      if (each.toggle) button.addEventListener("click", each.toggle);
    }
    if (held >= 0 && entries.length) box.children[Math.min(held, entries.length - 1)].focus();
  }

  Object.assign(charts, { scatter, lines, legend });
})();
