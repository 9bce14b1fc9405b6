// What all charts are made of: numbers, SVG, axes, the frame, limits and marks. No library.
// Colours and shapes belong to what is shown, never to its place in a list.
"use strict";

const charts = (() => {
  const NS = "http://www.w3.org/2000/svg";
  const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
  const DASHES = ["", "7 4", "2 3", "9 3 2 3", "4 2", "12 4"];
  const COLOURS = 6, PARTS = 10, MOST_TICKS = 14;
  // Of what comes n-th in its study: twelve differ in colour or shape, lines alone in their dash.
  const look = (n) => ({ colour: n, shape: SHAPES[n % 4], dash: Math.floor(n / COLOURS) });

  function number(value, digits) {
    // For people: so many significant digits, thousands apart.
    if (value == null || Number.isNaN(value)) return "–";
    const rounded = Number(value.toPrecision(digits || 4));
    return Math.abs(rounded) >= 1000 ? Math.round(rounded).toLocaleString("en-US")
      : String(rounded);
  }

  // A number with its noun: one of them is one.
  const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

  function significant(value, digits) {
    // As the tables in Python write it: so many digits, zeros at the end too.
    if (!Number.isFinite(value) || value === 0) return number(value, digits);
    const rounded = Number(value.toPrecision(digits));
    const power = Math.floor(Math.log10(Math.abs(rounded)));
    if (power < -4) return rounded.toExponential(digits - 1);
    const places = Math.max(digits - 1 - power, 0);
    return rounded.toLocaleString("en-US", { minimumFractionDigits: places,
      maximumFractionDigits: places });
  }

  function estimate(value, low, high, digits) {
    // A figure with its interval: ± where that is nearly symmetric.
    const write = digits > 3 ? number : significant;
    const [below, above] = [value - low, high - value];
    // What is far within the last digit that is shown says nothing.
    const last = value ? Math.pow(10, Math.floor(Math.log10(Math.abs(value))) - digits + 1) : 0;
    if (!(high > low) || Math.max(below, above) < last / 2) return number(value);
    if (Math.max(below, above) <= 1.25 * Math.min(below, above))
      return `${write(value, digits)} ± ${significant((high - low) / 2, 2)}`;
    return `${write(value, digits)} (${write(low, digits)}–${write(high, digits)})`;
  }

  function dress(node, parent, attributes, text) {
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  const svg = (parent, name, ...rest) => dress(document.createElementNS(NS, name), parent, ...rest);
  const html = (parent, name, ...rest) => dress(document.createElement(name), parent, ...rest);

  function broken(parent, text) {
    // A name that may be broken behind its underscores.
    text.split("_").forEach((word, place) => {
      if (place) { parent.append("_"); html(parent, "wbr"); }
      parent.append(word);
    });
  }

  // ---- axes

  const fitting = (log) => (value) => Number.isFinite(value) && (!log || value > 0);

  function domain(values, log, zero, exact) {
    const found = values.filter(fitting(log));
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
    scale.has = fitting(log);
    scale.domain = [low, high];
    return scale;
  }

  function ticks([low, high], log, most, whole) {
    if (log) {
      const near = high / low < 12 ? [[1, 1.5, 2, 3, 4, 5, 7]] : [];
      for (const steps of [...near, [1, 2, 5], [1, 3], [1]]) {
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
    // Two numbers make an axis: where the round ones leave fewer, finer ones.
    for (let raw = (high - low) / Math.max(1, most - 1); ; raw /= 2) {
      const power = Math.pow(10, Math.floor(Math.log10(raw)));
      // Of 25 and 0.25 anybody makes steps, of 2.5 nobody.
      const fine = power * (power === 1 ? [1, 2, 5, 10] : [1, 2, 2.5, 5, 10])
        .find((factor) => factor * power >= raw * 0.9999);
      const step = whole ? Math.ceil(fine) : fine, found = [];
      for (let at = Math.ceil(low / step - 1e-9); at * step <= high * (1 + 1e-9); at++)
        found.push(Number((at * step).toPrecision(12)));
      if (found.length > 1 || step > fine || !(raw > (high - low) / 20)) return found;
    }
  }

  // ---- the frame that all charts have

  function frame(box, options) {
    // A chart that is drawn anew keeps the keyboard, at the same mark.
    const held = box.contains(document.activeElement) ? box.at ?? -1 : null;
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
    if (held !== null) root.focus({ preventScroll: true });
    return { box, root, x, y, inner, small, options, held };
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
    let most = Math.max(2, Math.min(MOST_TICKS, Math.floor((inner.right - inner.left) / 52)));
    let found = options.x.ticks || ticks(options.x.domain, options.x.log, most, options.x.whole);
    const widest = Math.max(...found.map((at) => options.x.text(at).length)) * 7 + 10;
    most = Math.max(2, Math.floor((inner.right - inner.left) / widest));
    if (found.length > most) {
      const every = Math.ceil(found.length / most);
      found = found.filter((_, place) => place % every === 0);
    }
    for (const at of found) {
      svg(root, "line", { class: "grid", x1: x(at), x2: x(at), y1: inner.top, y2: inner.bottom });
      const text = options.x.text(at), half = 3.3 * text.length;
      svg(root, "text", { class: "tick", x: Math.max(half, Math.min(x(at), root.width.baseVal.value - half)),
        y: inner.bottom + 16, "text-anchor": "middle" }, text);
    }
  }

  function limit(chart, value, keep) {
    // A limit as a line; what is beyond it is shaded.
    const { root, y, inner } = chart, at = y(value);
    if (!(at >= inner.top && at <= inner.bottom)) return;
    const width = inner.right - inner.left;
    const top = keep === "below" ? inner.top : at;
    const height = keep === "below" ? at - inner.top : inner.bottom - at;
    if (keep !== "beside") svg(root, "rect", { class: "beyond", x: inner.left, y: top, width,
      height: Math.max(0, height) });
    svg(root, "line", { class: keep === "beside" ? "level" : "limit", x1: inner.left,
      x2: inner.right, y1: at, y2: at });
  }

  function limitText({ root, y, inner }, value, text, marks) {
    // The text of a limit, above its line or below.
    const at = y(value), width = widthOf(text);
    if (!text || !(at >= inner.top && at <= inner.bottom)) return;
    put(root, inner, marks, [1, 0, 0.5, 0.75, 0.25].flatMap((share) => [at - 4, at + 12]
      .map((line) => ({ left: inner.left + (inner.right - inner.left - width) * share, line, text }))));
  }

  const widthOf = (text) => text.length * 6.4 + 8;

  function put(root, inner, marks, places, look = "limit-text") {
    // A text inside the chart where it covers the fewest marks; it is one of them from then on.
    const over = ({ left, line, text }) => marks.filter(({ x, y }) => x > left - 6
      && x < left + widthOf(text) + 6 && y > line - 16 && y < line + 8).length;
    const found = places.filter(({ left, line, text }) => left > inner.left - 1
      && left + widthOf(text) < inner.right + 1 && line - 10 >= inner.top && line <= inner.bottom)
      .map((each) => ({ ...each, covered: over(each) })).sort((a, b) => a.covered - b.covered)[0];
    if (!found) return;
    const { left, line, text } = found;
    svg(root, "text", { class: look, x: left + 4, y: line }, text);
    for (let x = left; x < left + widthOf(text) + 6; x += 6) marks.push({ x, y: line - 4 });
  }

  const colourOf = (look) => `c${look.colour % COLOURS}`;

  function mark(parent, look, x, y, r, hollow) {
    const paths = {
      circle: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
      square: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
      triangle: `M${x} ${y - r * 1.2}L${x + r * 1.1} ${y + r * 0.9}H${x - r * 1.1}z`,
      diamond: `M${x} ${y - r * 1.3}L${x + r * 1.2} ${y}L${x} ${y + r * 1.3}L${x - r * 1.2} ${y}z`,
      cross: `M${x - r} ${y - r}L${x + r} ${y + r}M${x + r} ${y - r}L${x - r} ${y + r}`,
    };
    return svg(parent, "path", { class: `mark ${colourOf(look)} ${hollow ? "hollow" : ""}`, d: paths[look.shape] });
  }

  return { domain, frame, limit, limitText, put, widthOf, mark, colourOf, look, svg, html, broken, number, count, estimate,
    DASHES, PARTS };
})();
