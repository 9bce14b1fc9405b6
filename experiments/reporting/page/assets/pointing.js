// Marks that can be pointed at, read out and chosen; and a range that can be zoomed into.
//
// Each chart is one tab stop. Arrows go from mark to mark and read it out, Enter chooses, + and -
// zoom, Escape goes back.
"use strict";

(() => {
  const { svg, html } = charts;

  function interactive(chart, marks) {
    // marks: {x, y (pixels), text, pick, node}
    const { box, root, options } = chart, before = chart.held ?? -1;
    const tip = html(box, "div", { class: "tip", hidden: "" });
    if (!marks.length) svg(root, "text", { class: "tick", "text-anchor": "middle",
      x: root.width.baseVal.value / 2, y: chart.inner.top + 14 }, "nothing to show here");
    const live = html(box, "div", { class: "visually-hidden", "aria-live": "polite" });
    let at = -1;
    function show(place, speak) {
      at = box.at = place;
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
    if (before >= 0 && marks.length) show(Math.min(before, marks.length - 1), true);
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
    addEventListener("pointerup", (event) => {
      if (from === null) return;
      const to = event.clientX - root.getBoundingClientRect().left;
      const [low, high] = [Math.min(from, to), Math.max(from, to)];
      from = null;
      if (band) band.remove();
      if (high - low > 8) options.zoom([x.back(Math.max(inner.left, low)),
        x.back(Math.min(inner.right, high))]);
    });
  }

  charts.interactive = interactive;
})();
