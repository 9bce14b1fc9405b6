// The live page: knobs on one side, what becomes of them on the other.
"use strict";

(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const el = (id) => document.getElementById(id);
  const PAUSE_MS = 60;
  const state = { baseline: null, base: null, shown: null, asking: null, timer: 0, curve: new Map() };
  const values = Object.fromEntries(DATA.knobs.map((knob) => [knob.id, knob.value]));

  const number = charts.number;
  const LOAD = DATA.knobs.find(({ id }) => id === "rate" || id === "users");

  // ---- knobs: numbers as sliders with a field beside them, choices as lists

  const changed = (given) => Object.fromEntries(DATA.knobs
    .filter((knob) => String(given[knob.id]) !== String(knob.value))
    .map((knob) => [knob.id, String(given[knob.id])]));

  function restore() {
    // The address has what was changed: another window, or this one loaded again, shows the same.
    const words = new URLSearchParams(location.hash.slice(1));
    for (const knob of DATA.knobs) {
      const text = words.get(knob.id), value = Number(text);
      if (text === null) continue;
      if (knob.kind === "choice") {
        if (knob.choices.some((choice) => String(choice) === text)) values[knob.id] = text;
      } else if (value >= knob.low && value <= knob.high
        && (knob.kind !== "whole" || Number.isInteger(value))) values[knob.id] = value;
    }
  }

  function drawKnobs() {
    for (const knob of DATA.knobs) {
      const row = charts.html(el("knobs"), "div", { class: "knob" });
      const label = charts.html(row, "label", { for: `knob-${knob.id}` });
      charts.broken(label, knob.label);
      if (knob.kind === "choice") {
        const list = charts.html(row, "select", { id: `knob-${knob.id}` });
        for (const choice of knob.choices)
          charts.html(list, "option", { value: String(choice) }, String(choice));
        list.value = String(values[knob.id]);
        list.addEventListener("change", () => set(knob, list.value));
        continue;
      }
      const field = charts.html(row, "input", { id: `knob-${knob.id}`, type: "number",
        min: knob.low, max: knob.high, step: knob.kind === "whole" ? 1 : "any" });
      const slider = charts.html(row, "input", { type: "range", min: 0, max: 1000, step: 1,
        "aria-label": `${knob.label}, slider` });
      const place = (value) => 1000 * Math.log(value / knob.low) / Math.log(knob.high / knob.low);
      const show = () => { field.value = values[knob.id]; slider.value = place(values[knob.id]); };
      show();
      slider.addEventListener("input", () => {
        let value = knob.low * Math.pow(knob.high / knob.low, slider.value / 1000);
        value = knob.kind === "whole" ? Math.round(value) : Number(value.toPrecision(3));
        field.value = value;
        set(knob, value);
      });
      field.addEventListener("change", () => {
        let value = Math.min(knob.high, Math.max(knob.low, Number(field.value) || knob.value));
        if (knob.kind === "whole") value = Math.round(value);
        values[knob.id] = value;
        show();
        set(knob, value);
      });
      label.title = `from ${number(knob.low)} to ${number(knob.high)}`;
    }
  }

  function set(knob, value) {
    values[knob.id] = value;
    clearTimeout(state.timer);
    state.timer = setTimeout(ask, PAUSE_MS);
  }

  // ---- asking: a newer setting makes the answer to an older one worthless

  function address(given, seeds) {
    const words = new URLSearchParams(changed(given));
    words.set("seeds", String(seeds));
    if (state.baseline) {
      // The baseline is sent whole, so that one at the study's own point is a baseline, too.
      for (const knob of DATA.knobs) words.set(`baseline.${knob.id}`, state.baseline[knob.id]);
    }
    return `/run?${words}`;
  }

  async function lines(url, signal, take) {
    const answer = await fetch(url, { signal });
    if (!answer.ok) { take({ error: await answer.text() }); return; }
    const reader = answer.body.getReader(), decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      text += decoder.decode(value || new Uint8Array(), { stream: !done });
      const whole = text.split("\n");
      text = whole.pop();
      for (const line of whole) if (line) take(JSON.parse(line));
      if (done) return;
    }
  }

  async function ask() {
    if (state.asking) state.asking.abort();
    const asking = state.asking = new AbortController();
    const setting = { ...values };
    history.replaceState(null, "", `#${new URLSearchParams(changed(setting))}`);
    el("busy").textContent = "simulating …";
    document.body.dataset.done = "";
    try {
      let failed = false;
      await lines(address(setting, Number(el("seeds").value)), asking.signal, (told) => {
        if (asking !== state.asking) return;
        failed = failed || Boolean(told.error);
        show(told);
      });
      if (!failed) await curve(setting, asking);
      if (asking === state.asking) {
        el("busy").textContent = "";
        document.body.dataset.done = JSON.stringify(changed(setting));
      }
    } catch (error) {
      if (error.name !== "AbortError") showError("The server does not answer: is it still running?");
    }
  }

  async function curve(setting, asking) {
    // What if more or fewer came: one seed each, once the answer itself is there.
    if (!LOAD) return;
    state.curve = new Map();
    for (const factor of [0.25, 0.5, 0.7, 0.85, 1, 1.15, 1.3, 1.6, 2]) {
      const exact = setting[LOAD.id] * factor;
      const load = LOAD.kind === "whole" ? Math.round(exact) : Number(exact.toPrecision(3));
      if (load < LOAD.low || load > LOAD.high || state.curve.has(load)) continue;
      await lines(address({ ...setting, [LOAD.id]: load }, 1), asking.signal, (told) => {
        if (told.error || asking !== state.asking) return;
        const id = `ttft_${tail(told)}_s`, found = told.point.m[id], few = told.point.few[id];
        // Where as much comes as can be served a figure says how long the run was, nothing else.
        const lasts = found && found[0] !== null && few !== 0;
        state.curve.set(load, { ms: lasts ? found[0] * 1000 : NaN, few });
        drawCurve();
      });
    }
  }

  // ---- showing: the percentile of TTFT that the limits look at, and its limit

  const tail = (told) => `p${told.tails.ttft}`;
  const limitOf = ({ limits, tails }) => limits[`ttft_p${tails.ttft}_s`] ?? limits.ttft_s;

  function showError(text) {
    el("verdict").className = "verdict missed";
    el("verdict-text").textContent = text;
    el("verdict-more").textContent = "";
    el("busy").textContent = "";
    document.body.dataset.done = "error";
  }

  function show(told) {
    if (told.error) { showError(told.error); return; }
    state.shown = told;
    el("verdict").className = `verdict ${told.verdict.state}`;
    el("verdict-text").textContent = told.verdict.text;
    const seen = told.requests
      ? `First look: ${charts.count(told.requests, "request")} of one seed.`
      : `${told.seeds} of ${charts.count(told.of, "seed")}.`;
    const again = told.again ? " A worker process was killed; its run was done again." : "";
    el("verdict-more").textContent = `${told.verdict.counts} ${seen}${again}`;
    el("verdict").dataset.requests = told.requests || "";
    el("cards").textContent = "";
    for (const card of told.cards) {
      const box = charts.html(el("cards"), "div", { class: "card" });
      charts.html(box, "span", {}, card.title);
      const [value, ends] = card.value.split(/ (?=[±(])/);
      const figure = charts.html(box, "b", {}, ends ? `${value} ` : value);
      if (ends) charts.html(figure, "small", {}, ends);
      for (const text of [card.note, card.few])
        if (text) charts.html(box, "span", { class: "line" }, text);
    }
    el("notes").textContent = "";
    for (const note of told.notes) charts.html(el("notes"), "li", {}, note);
    el("options").textContent = told.options || "(the study's own point)";
    if (!told.requests) drawDifferences(told.differences);
    drawCharts(told);
  }

  function drawDifferences(rows) {
    const table = el("differences");
    table.textContent = "";
    table.parentElement.hidden = !rows.length;
    if (!rows.length) return;
    const head = charts.html(charts.html(table, "thead"), "tr");
    for (const text of ["figure", "baseline", "now", "difference (95%)"])
      charts.html(head, "th", { scope: "col", class: text === "figure" ? "text" : "" }, text);
    const body = charts.html(table, "tbody");
    for (const row of rows) {
      const line = charts.html(body, "tr");
      charts.html(line, "th", { scope: "row", class: "text" }, row.name);
      charts.html(line, "td", {}, number(row.baseline));
      charts.html(line, "td", {}, number(row.now));
      const known = row.difference_lo !== null && row.difference_hi !== null
        && row.difference_hi > row.difference_lo;
      const none = known && row.difference_lo <= 0 && row.difference_hi >= 0;
      const sign = row.difference > 0 ? "+" : "";
      const half = known ? ` ±${number((row.difference_hi - row.difference_lo) / 2, 2)}` : "";
      charts.html(line, "td", {}, none ? `no difference seen (±${number(
        (row.difference_hi - row.difference_lo) / 2, 2)})` : `${sign}${number(row.difference)}${half}`);
    }
  }

  const look = (place) => ({ ...charts.look(place), dash: place });

  function drawCharts(told) {
    const limit = limitOf(told), ttftName = `TTFT ${tail(told)}`;
    drawParts(told, limit);
    drawBound(told);
    const shown = [["now", told.point], ...(state.base ? [["baseline", state.base.point]] : [])];
    for (const [id, name, title] of [["cdf-ttft", "ttft", "TTFT, ms"],
      ["cdf-tpot", "tpot", "TPOT, ms"], ["cdf-e2e", "e2e", "E2E, s"]]) {
      const scale = name === "e2e" ? 1e-3 : 1, unit = title.split(", ")[1];
      const series = shown.filter(([, point]) => point.q[name]).map(([label, point], place) => ({
        name: label, look: look(place), points: point.q[name].map((value, rank) => ({
          x: value * scale, y: DATA.ranks[rank] * 100, text: `${label} · ${number(
            DATA.ranks[rank] * 100)}% within ${number(value * scale)} ${unit}` })) }));
      const all = series.flatMap((each) => each.points.map((point) => point.x));
      charts.lines(el(id), { id, label: `Distribution of ${title}`, series, plain: true, height: 240,
        x: { domain: charts.domain(all, true), log: true, text: (at) => number(at, 3), title },
        y: { domain: [0, 100], log: false, text: (at) => number(at), title: "% at or below" } });
    }
    charts.legend(el("cdf-legend"), shown.map(([name], place) => ({ name, look: look(place) })));
    const time = told.point.time, ttft = time.ttft.map((value, place) => ({
      x: 100 * (place + 0.5) / time.ttft.length, y: value ?? NaN,
      text: `${ttftName} ${number(value)} ms` }));
    charts.lines(el("time-ttft"), { id: "time-ttft", label: `${ttftName} over the run`, plain: true,
      height: 240, series: [{ name: "now", look: look(0), points: ttft }],
      x: { domain: [0, 100], log: false, text: (at) => number(at), title: "% of the run" },
      y: { domain: charts.domain(ttft.map((each) => each.y), true), log: true,
        text: (at) => number(at, 3), title: `${ttftName}, ms` },
      limit: limit === undefined ? null : { value: limit * 1000, text: "limit", keep: "below" } });
  }

  function drawParts(told, limit) {
    const span = told.spans.find(({ id }) => id === "ttft"), parts = told.point.parts.ttft || [];
    if (!span || !parts.length) return;
    const rows = DATA.percents.map((percent, place) => {
      const values = parts.map((each) => each[place]);
      return { name: `p${percent}`, parts: values, text: charts.named(span.parts, values, " ms") };
    });
    const sums = rows.map((row) => row.parts.reduce((sum, part) => sum + part, 0));
    charts.stacks(el("split"), { id: "split", label: "Where the time to first token goes", rows,
      limit: limit === undefined ? null : { value: limit * 1000, text: "limit" }, reach: 24,
      x: { domain: charts.domain(sums, false, true), log: false, text: (at) => number(at, 3),
        title: "TTFT, ms: requests around a percentile" } });
    charts.legend(el("split-legend"), span.parts.map((name, part) => ({ name, part }))
      .filter(({ part }) => parts[part].some((value) => value > 0)));
  }

  function drawBound(told) {
    const shares = told.point.time ? told.point.time.bound : [];
    const count = Math.max(0, ...shares.map((each) => each.length));
    const slices = Array.from({ length: count }, (_, place) => {
      const parts = shares.map((each) => (each[place] || 0) / 100);
      return { from: 100 * place / count, to: 100 * (place + 1) / count, parts,
        text: charts.named(told.bound, parts.map((share) => 100 * share), "%") };
    });
    charts.bands(el("bound"), { id: "bound", label: "What limits the engine over the run",
      x: { domain: [0, 100], log: false, text: (at) => number(at), title: "% of the run" },
      rows: [{ name: "first seed", slices }] });
    charts.legend(el("bound-legend"), told.bound.map((name, part) => ({ name, part })));
  }

  function drawCurve() {
    const ttftName = `TTFT ${tail(state.shown)}`;
    const all = [...state.curve].sort(([a], [b]) => a - b);
    const points = all.filter(([, { ms }]) => ms === ms).map(([x, { ms, few }]) => ({ x, y: ms,
      hollow: few !== undefined, text: `${number(x)} ${LOAD.label} · ${ttftName} ${number(ms)} ms`
        + (few === undefined ? "" : `, rests on ${number(few, 2)} independent requests`) }));
    const lost = all.filter(([, { ms }]) => ms !== ms).map(([x]) => number(x));
    const told = [
      lost.length && "Without a latency that lasts (as much comes as can be served, or more; or "
        + `nobody was answered): ${lost.join(", ")}.`,
      points.some(({ hollow }) => hollow) && "Hollow: rests on few independent requests.",
    ];
    el("rate-told").textContent = told.filter(Boolean).join(" ");
    const limit = limitOf(state.shown), ys = points.map((each) => each.y);
    if (limit !== undefined) ys.push(limit * 1000);
    charts.lines(el("rate-curve"), { id: "rate-curve", height: 240,
      label: `${ttftName} at other numbers of ${LOAD.label}`,
      series: [{ name: ttftName, look: look(0), points }],
      x: { domain: charts.domain(all.map(([x]) => x), false, true), log: false,
        text: (at) => number(at), title: `${LOAD.label}, one seed each` },
      y: { domain: charts.domain(ys, true), log: true, text: (at) => number(at, 3),
        title: `${ttftName}, ms` },
      limit: limit === undefined ? null : { value: limit * 1000, text: "limit", keep: "below" } });
  }

  // ---- buttons

  el("keep").addEventListener("click", () => {
    if (state.baseline) {
      state.baseline = state.base = null;
      el("keep").textContent = "Keep as baseline";
      el("keep").setAttribute("aria-pressed", "false");
    } else if (state.shown && !state.shown.requests) {
      state.baseline = { ...values };
      state.base = state.shown;
      el("keep").textContent = "Drop the baseline";
      el("keep").setAttribute("aria-pressed", "true");
    }
    ask();
  });
  el("copy").addEventListener("click", async () => {
    const text = state.shown ? state.shown.options : "";
    try {
      await navigator.clipboard.writeText(text);
      el("copied").textContent = "copied";
    } catch {
      el("copied").textContent = "select the text below";
    }
  });
  el("save").addEventListener("click", () => {
    location.assign(`/study?${new URLSearchParams(changed(values))}`);
  });
  el("seeds").addEventListener("change", ask);
  restore();
  drawKnobs();
  if (!LOAD) el("rate-curve").parentElement.hidden = true;
  ask();
})();
