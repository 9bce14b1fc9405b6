// Charts as SVG: scatter and lines on linear or logarithmic axes; rows.js adds rows. No library.
//
// Each chart is one tab stop. Arrows go from mark to mark and read it out, Enter chooses, + and -
// zoom, Escape goes back. Colours and shapes belong to what is shown, never to its place in a list.
"use strict";

const charts = (() => {
  const NS = "http://www.w3.org/2000/svg";
  const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
  const DASHES = ["", "7 4", "2 3", "9 3 2 3", "4 2", "12 4"];
  const COLOURS = 4, PARTS = 10;

  function number(value, digits) {
    // For people: so many significant digits, thousands apart.
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (value === 0) return "0";
    const rounded = Number(value.toPrecision(digits || 4));
    return Math.abs(rounded) >= 1000 ? Math.round(rounded).toLocaleString("en-US")
      : String(rounded);
  }

  function svg(parent, name, attributes, text) {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }

  function html(parent, name, attributes, text) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  // ---- axes

  function domain(values, log, zero, exact) {
    const found = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
    if (!found.length) return log ? [1, 10] : [0, 1];
    let low = Math.min(...found), high = Math.max(...found);
    if (exact) return high > low ? [low, high] : [low, low + 1];
    if (log) {
      if (low === high) { low /= 2; high *= 2; }
      const margin = Math.pow(high / low, 0.04);
      return [low / margin, high * margin];
    }
    if (zero) low = Math.min(0, low);
    if (low === high) high = low + 1;
    return [low - (zero ? 0 : (high - low) * 0.03), high + (high - low) * 0.04];
  }

  function scaleOf([low, high], from, to, log) {
    const map = log ? Math.log : (value) => value;
    const a = map(low), span = map(high) - a;
    const scale = (value) => from + (to - from) * (map(value) - a) / span;
    scale.back = (pixel) => {
      const value = a + span * (pixel - from) / (to - from);
      return log ? Math.exp(value) : value;
    };
    scale.log = log;
    scale.domain = [low, high];
    return scale;
  }

  function ticks([low, high], log, most) {
    if (log) {
      for (const steps of [[1, 2, 5], [1, 3], [1]]) {
        const found = [];
        for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
          for (const step of steps) {
            const value = step * Math.pow(10, power);
            if (value >= low * 0.9999 && value <= high * 1.0001) found.push(value);
          }
        if (found.length <= most && found.length > 1) return found;
      }
      const powers = [];
      for (let power = Math.ceil(Math.log10(low)); Math.pow(10, power) <= high; power++)
        powers.push(power);
      const every = Math.ceil(powers.length / most);
      if (powers.length > 1) return powers.filter((power) => power % every === 0)
        .map((power) => Number(`1e${power}`));
    }
    const raw = (high - low) / Math.max(1, most - 1);
    const power = Math.pow(10, Math.floor(Math.log10(raw)));
    const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw * 0.9999);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high * (1 + 1e-9); at++)
      found.push(Number((at * step).toPrecision(12)));
    return found;
  }

  // ---- the frame that all charts have

  function frame(box, options) {
    box.textContent = "";
    const width = Math.max(240, box.clientWidth || 320);
    const small = width < 480;
    const height = options.height || (small ? 270 : 300);
    const margin = { left: options.left ?? besides(options.y, small), right: options.right || 14, top: 10,
      bottom: 44 };
    const root = svg(box, "svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "application", tabindex: "0",
      "aria-label": `${options.label}. Arrow keys read the points.`, "data-chart": options.id,
    });
    const x = scaleOf(options.x.domain, margin.left, width - margin.right, options.x.log);
    const y = options.y
      ? scaleOf(options.y.domain, height - margin.bottom, margin.top, options.y.log) : null;
    const inner = { left: margin.left, right: width - margin.right, top: margin.top,
      bottom: height - margin.bottom };
    xTicks(root, x, options, inner);
    svg(root, "text", { class: "title", x: (inner.left + inner.right) / 2, y: height - 6,
      "text-anchor": "middle" }, options.x.title);
    if (y) yTicks(root, y, options, inner, small);
    return { box, root, x, y, inner, small, options };
  }

  function yTicks(root, y, options, inner, small) {
    for (const at of ticks(options.y.domain, options.y.log, small ? 5 : 7)) {
      svg(root, "line", { class: "grid", x1: inner.left, x2: inner.right, y1: y(at), y2: y(at) });
      svg(root, "text", { class: "tick", x: inner.left - 6, y: y(at) + 4, "text-anchor": "end" },
        options.y.text(at));
    }
    svg(root, "text", { class: "title", "text-anchor": "middle",
      transform: `translate(13 ${(inner.top + inner.bottom) / 2}) rotate(-90)` }, options.y.title);
  }

  function besides(y, small) {
    // Room for the widest number of the axis, and its title.
    const texts = ticks(y.domain, y.log, small ? 5 : 7).map((at) => y.text(at).length);
    return 32 + 7 * Math.max(...texts, 2);
  }

  function xTicks(root, x, options, inner) {
    // As many as their texts leave room for.
    let most = Math.max(2, Math.floor((inner.right - inner.left) / 52));
    let found = options.x.ticks || ticks(options.x.domain, options.x.log, most);
    const widest = Math.max(...found.map((at) => options.x.text(at).length)) * 7 + 10;
    most = Math.max(2, Math.floor((inner.right - inner.left) / widest));
    if (found.length > most) {
      const every = Math.ceil(found.length / most);
      found = found.filter((_, place) => place % every === 0);
    }
    for (const at of found) {
      svg(root, "line", { class: "grid", x1: x(at), x2: x(at), y1: inner.top, y2: inner.bottom });
      svg(root, "text", { class: "tick", x: x(at), y: inner.bottom + 16, "text-anchor": "middle" },
        options.x.text(at));
    }
  }

  function limit(chart, value, text, keep) {
    // A limit as a line; what is beyond it is shaded.
    const { root, y, inner } = chart, at = y(value);
    if (!(at >= inner.top && at <= inner.bottom)) return;
    const top = keep === "below" ? inner.top : at;
    const height = keep === "below" ? at - inner.top : inner.bottom - at;
    svg(root, "rect", { class: "beyond", x: inner.left, y: top, width: inner.right - inner.left,
      height: Math.max(0, height) });
    svg(root, "line", { class: "limit", x1: inner.left, x2: inner.right, y1: at, y2: at });
    svg(root, "text", { class: "limit-text", x: inner.right - 4, "text-anchor": "end",
      y: at - inner.top < 16 ? at + 13 : at - 4 }, text);
  }

  function mark(parent, look, x, y, size, hollow) {
    const colour = `c${look.colour % COLOURS}`;
    const fill = hollow ? "hollow" : "";
    const r = size;
    const paths = {
      circle: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
      square: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
      triangle: `M${x} ${y - r * 1.2}L${x + r * 1.1} ${y + r * 0.9}H${x - r * 1.1}z`,
      diamond: `M${x} ${y - r * 1.3}L${x + r * 1.2} ${y}L${x} ${y + r * 1.3}L${x - r * 1.2} ${y}z`,
      cross: `M${x - r} ${y - r}L${x + r} ${y + r}M${x + r} ${y - r}L${x - r} ${y + r}`,
    };
    return svg(parent, "path", { class: `mark ${colour} ${fill}`, d: paths[look.shape] });
  }

  // ---- marks that can be pointed at, read and chosen

  function interactive(chart, marks) {
    // marks: {x, y (pixels), text, pick, node}
    const { box, root, options } = chart;
    const tip = html(box, "div", { class: "tip", hidden: "" });
    const live = html(box, "div", { class: "visually-hidden", "aria-live": "polite" });
    let at = -1;
    function show(place, speak) {
      at = place;
      for (const each of marks) if (each.node) each.node.classList.remove("on");
      if (place < 0) { tip.hidden = true; return; }
      const found = marks[place];
      if (found.node) found.node.classList.add("on");
      tip.textContent = found.text;
      tip.hidden = false;
      const left = Math.min(Math.max(0, found.x + 10), box.clientWidth - tip.offsetWidth - 4);
      tip.style.left = `${left}px`;
      tip.style.top = `${Math.max(0, found.y - tip.offsetHeight - 10)}px`;
      if (speak) live.textContent = found.text;
    }
    function nearest(event) {
      const area = root.getBoundingClientRect();
      const x = event.clientX - area.left, y = event.clientY - area.top;
      let best = -1, least = options.reach || 30;
      marks.forEach((each, place) => {
        const dx = options.byY ? 0 : each.x - x, dy = options.byX ? 0 : each.y - y;
        const distance = Math.hypot(dx, dy);
        if (distance < least) { least = distance; best = place; }
      });
      return best;
    }
    let touched = -1;
    root.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") show(nearest(event), false);
    });
    root.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") show(-1, false);
    });
    root.addEventListener("click", (event) => {
      // A finger first sees what it points at, and chooses with the second tap.
      const place = nearest(event), finger = event.pointerType === "touch";
      if (place >= 0 && marks[place].pick && (!finger || touched === place)) marks[place].pick();
      else show(place, true);
      touched = place;
    });
    root.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step && marks.length) {
        show((at + step + marks.length) % marks.length, true);
      } else if (event.key === "Enter" && at >= 0 && marks[at].pick) {
        marks[at].pick();
      } else if (event.key === "Escape") {
        show(-1, false);
        if (options.zoom) options.zoom(null);
      } else if ((event.key === "+" || event.key === "-") && options.zoom) {
        const [low, high] = options.x.domain, middle = (low + high) / 2;
        const half = (high - low) / 2 * (event.key === "+" ? 0.6 : 1 / 0.6);
        options.zoom([middle - half, middle + half]);
      } else return;
      event.preventDefault();
    });
    root.addEventListener("blur", () => show(-1, false));
    if (options.zoom) dragToZoom(chart);
  }

  function dragToZoom({ root, x, inner, options }) {
    let from = null, band = null;
    root.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch") return;
      from = event.clientX - root.getBoundingClientRect().left;
      band = svg(root, "rect", { class: "band", y: inner.top, height: inner.bottom - inner.top,
        x: from, width: 0 });
    });
    root.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = event.clientX - root.getBoundingClientRect().left;
      band.setAttribute("x", Math.min(from, to));
      band.setAttribute("width", Math.abs(to - from));
    });
    window.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const to = event.clientX - root.getBoundingClientRect().left;
      const [low, high] = [Math.min(from, to), Math.max(from, to)];
      from = null;
      if (band) band.remove();
      if (high - low > 8) options.zoom([x.back(Math.max(inner.left, low)),
        x.back(Math.min(inner.right, high))]);
    });
  }

  // ---- kinds of charts

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
      if (each.chosen) node.classList.add("chosen");
      return { x: x(each.x), y: y(each.y), text: each.text, pick: each.pick, node };
    });
    if (options.named) name(chart, marks, options.named);
    interactive(chart, marks);
  }

  function name({ root, x, y, inner }, marks, { x: at, y: up, text, short }) {
    // A text beside a mark: where it is inside the chart and covers the fewest marks.
    const places = [];
    for (const words of [text, short || text])
      for (const [dx, dy, anchor] of [[10, 18, 0], [10, -10, 0], [-10, 18, 1], [-10, -10, 1],
        [0, 24, 0.5], [0, -16, 0.5]]) {
        const width = words.length * 6.6, left = x(at) + dx - width * anchor;
        const line = y(up) + dy;
        if (left < inner.left || left + width > inner.right || line - 12 < inner.top
          || line > inner.bottom) continue;
        const covered = marks.filter((each) => each.x > left - 7 && each.x < left + width + 7
          && each.y > line - 18 && each.y < line + 8).length;
        places.push({ left, line, words, covered });
      }
    places.sort((a, b) => a.covered - b.covered);
    if (places.length) svg(root, "text", { class: "named", x: places[0].left, y: places[0].line },
      places[0].words);
  }

  function lines(box, options) {
    // options.series: {name, look, points: {x, y, low, high, text}, pick}
    // options.spans: {low, high, at, look, text}, intervals on the x axis.
    const chart = frame(box, options), { root, x, y, inner } = chart;
    (options.spans || []).forEach((each, place) => span(chart, each, place));
    for (const each of options.limits || [options.limit])
      if (each) limit(chart, each.value, each.text, each.keep);
    const clip = `clip-${options.id}`;
    const hole = svg(root, "clipPath", { id: clip });
    svg(hole, "rect", { x: inner.left, y: inner.top, width: inner.right - inner.left,
      height: inner.bottom - inner.top });
    const layer = svg(root, "g", { "clip-path": `url(#${clip})` });
    const marks = [];
    for (const each of options.series) {
      const dash = DASHES[each.look.dash % DASHES.length];
      let path = "", open = false;
      for (const point of each.points) {
        if (!Number.isFinite(point.y) || (y.log && point.y <= 0)) { open = false; continue; }
        path += `${open ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
        open = true;
      }
      svg(layer, "path", { class: `line c${each.look.colour % COLOURS}`, d: path,
        "stroke-dasharray": dash });
      for (const point of each.points) {
        if (!Number.isFinite(point.y) || (y.log && point.y <= 0)) continue;
        if (point.x < x.domain[0] || point.x > x.domain[1]) continue;
        if (Number.isFinite(point.low)) {
          const low = y.log ? Math.max(point.low, y.domain[0]) : point.low;
          svg(layer, "line", { class: `bar c${each.look.colour % COLOURS}`, x1: x(point.x),
            x2: x(point.x), y1: y(low), y2: y(point.high) });
        }
        const node = options.plain ? null
          : mark(layer, each.look, x(point.x), y(point.y), 4, false);
        marks.push({ x: x(point.x), y: y(point.y), text: point.text, pick: each.pick, node });
      }
    }
    interactive(chart, marks);
  }

  function span({ root, x, inner }, { low, high, at, look, text }, place) {
    const colour = `c${look.colour % COLOURS}`;
    if (Number.isFinite(low) && Number.isFinite(high))
      svg(root, "rect", { class: `span ${colour}`, x: x(low), width: Math.max(1, x(high) - x(low)),
        y: inner.top, height: inner.bottom - inner.top });
    svg(root, "line", { class: `at ${colour}`, x1: x(at), x2: x(at), y1: inner.top,
      y2: inner.bottom });
    const right = x(at) > (inner.left + inner.right) / 2;
    svg(root, "text", { class: "limit-text", x: x(at) + (right ? -5 : 5),
      y: inner.top + 12 + 14 * place, "text-anchor": right ? "end" : "start" }, text);
  }

  function legend(box, entries) {
    // entries: {name, look | part, on, toggle}
    box.textContent = "";
    for (const each of entries) {
      const button = html(box, "button", { type: "button", class: "key",
        "aria-pressed": String(each.on !== false) });
      const icon = svg(button, "svg", { width: 28, height: 14, "aria-hidden": "true" });
      if (each.look) {
        svg(icon, "line", { class: `line c${each.look.colour % COLOURS}`, x1: 0, x2: 28, y1: 7,
          y2: 7, "stroke-dasharray": DASHES[each.look.dash % DASHES.length] });
        mark(icon, each.look, 14, 7, 4, false);
      } else svg(icon, "rect", { class: `part p${each.part % PARTS}`, x: 4, y: 1, width: 20, height: 12 });
      html(button, "span", {}, each.name);
      if (each.toggle) button.addEventListener("click", each.toggle);
      else button.disabled = true;
    }
  }

  return { scatter, lines, legend, domain, frame, interactive, svg, html, number, SHAPES, PARTS };
})();
