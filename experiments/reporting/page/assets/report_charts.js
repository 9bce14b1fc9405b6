// Every chart of the report. Those below the table show the chosen points.
"use strict";

(() => {
  const { DATA, el, state, figure, metric, named, numbered, inMs, tail, limitOf, groupLook, pointLook,
    lineLook, few, describe, choose, chosen, columns } = report;
  const number = charts.number;
  const MOST_LOOKS = 12;  // that differ in colour or in shape: of more, a legend helps nobody
  const three = (at) => number(at, 3);

  report.drawPareto = () => {
    const box = el("pareto");
    if (!box) return;
    const points = DATA.points.map((point) => {
      const tpot = metric(point, "tpot_p50_s");
      return { x: tpot ? 1 / tpot : NaN, y: metric(point, "usd_per_million_output_tokens"),
        look: groupLook(point), state: point.state, text: describe(point),
        pick: () => choose(point.n), chosen: state.chosen.has(point.n) };
    }).filter((each) => each.x > 0 && each.y > 0);
    const good = points.filter((each) => each.state === "kept").sort((a, b) => b.x - a.x);
    const best = [];
    for (const each of good) if (!best.length || each.y < best[best.length - 1].y) best.push(each);
    const cheapest = best[best.length - 1];
    charts.scatter(box, {
      id: "pareto", label: "Price against the speed of one user", height: box.clientWidth < 480
        ? 270 : 360, points, best, reach: 24,
      named: cheapest && { x: cheapest.x, y: cheapest.y, text: "cheapest that keeps the limits",
        short: "cheapest" },
      x: { domain: [0, charts.domain(points.map((each) => each.x), false, true)[1]], log: false,
        text: (at) => number(at), title: "tokens per second of one user (1 / median TPOT)" },
      y: { domain: charts.domain(points.map((each) => each.y), true), log: true,
        text: three, title: "USD per million output tokens" },
    });
    const { groups } = DATA;
    charts.legend(el("pareto-legend"), groups.length > 1 && groups.length <= MOST_LOOKS
      ? groups.map((name, group) => ({ name, look: groupLook({ group }) })) : []);
  };

  report.drawLoad = () => {
    const box = el("load");
    if (!box || DATA.axis === null) return;
    const at = (point) => Number(point.values[DATA.axis_place]);
    const xs = DATA.points.map(at);
    const log = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 8;
    // Of many lines those with a chosen point stand out.
    const many = DATA.lines.length > MOST_LOOKS;
    const told = new Set((many ? chosen() : DATA.points).map((point) => point.line));
    const x = { domain: charts.domain(xs, log), log, text: (value) => number(value),
      ticks: new Set(xs).size <= 8 ? [...new Set(xs)].sort((a, b) => a - b) : undefined,
      title: DATA.axis, whole: xs.every(Number.isInteger) };
    for (const [id, name, isLog] of [["load-ttft", tail("ttft"), true],
      ["load-tpot", tail("tpot"), true], ["load-within", "slo_attainment", false]]) {
      const target = el(id), column = columns.get(name);
      if (!target || !column) continue;
      const limit = limitOf(name), scale = column.scale || 1;
      const series = DATA.lines.map((title, line) => ({
        name: title, look: lineLook(line), faint: !told.has(line),
        points: DATA.points.filter((point) => point.line === line
          && (!isLog || point.state !== "saturated" && few(point, name) !== 0))
          .filter((point) => metric(point, name) !== null).map((point) => {
            const [value, low, high] = figure(point, name);
            return { x: at(point), y: value * scale, low: (low ?? NaN) * scale,
              high: (high ?? NaN) * scale, hollow: few(point, name) !== undefined,
              text: `${named(point)} · ${column.name}: ${number(value * scale)}` };
          }).sort((a, b) => a.x - b.x),
      }));
      const all = series.flatMap((each) => each.points.map((point) => point.y));
      if (limit !== undefined) all.push(limit * scale);
      charts.lines(target, { id, label: `${column.name} against ${DATA.axis}`, series, x,
        y: { domain: isLog ? charts.domain(all, true) : [0, 100], log: isLog, text: three,
          title: isLog ? column.name : "% of requests within the limits" },
        limit: limit === undefined ? null : { value: limit * scale, keep: isLog ? "below" : "above",
          text: isLog ? `limit ${number(limit * scale)}` : `wanted ${number(limit * scale)}` } });
    }
    el("load-told").textContent = many ? `${DATA.lines.length} lines; those with a chosen point `
      + "stand out." : "";
    charts.legend(el("load-legend"), DATA.lines.length > 1 ? DATA.lines.map((name, line) => ({ name,
      line, look: lineLook(line) })).filter(({ line }) => told.has(line)) : []);
  };

  // ---- the chosen points

  report.drawDifferences = () => {
    const box = el("differences");
    if (!box) return;
    const found = DATA.differences.metrics.find((each) => each.metric === state.metric);
    const all = found.rows.length <= 16
      ? found.rows : found.rows.filter(([n]) => state.chosen.has(n));
    const label = (n) => named(DATA.points[n - 1]);
    const rows = all.filter((row) => row[2]).map(([n, base, before, gap, low, high, sure]) => {
      const share = (value) => 100 * value / Math.abs(before);
      const better = gap * found.way > 0;
      const word = !sure ? "not beyond noise" : found.way ? (better ? "better" : "worse") : "";
      return { name: label(n), value: share(gap), low: share(low), high: share(high), hollow: !sure,
        state: sure && found.way ? (better ? "good" : "bad") : "plain",
        text: `${label(n)} against ${label(base)} · ${found.name}: ${gap > 0 ? "+" : ""}${
          number(gap, 3)} (${number(low, 3)} to ${number(high, 3)}), ${number(share(gap), 3)}%${
          word ? ", " + word : ""}` };
    });
    const ends = rows.flatMap((row) => [row.value, row.low, row.high, 0]);
    const bases = [...new Set(all.map((row) => row[1]))];
    el("differences-told").textContent = rows.length
      ? (bases.length === 1 ? `Against point ${bases[0]} (${label(bases[0])}). ` : "")
        + (found.rows.length > all.length ? "Of the chosen points. " : "")
      : "No point that is shown has an interval for this: choose others in the table.";
    charts.bars(box, { id: "differences", label: `Change of ${found.name}`, rows, base: 0,
      reach: 22, x: { domain: span(ends), log: false, text: (at) => `${at > 0 ? "+" : ""}${
        number(at, 3)}%`, title: `${found.name.replace(/, [^,]*$/, "")}: change, %` } });
  };

  function span(values) {
    const low = Math.min(...values, 0), high = Math.max(...values, 0);
    const margin = (high - low || 1) * 0.04;
    return [low - margin, high + margin];
  }

  function drawParts(points) {
    const box = el("parts");
    if (!box || !state.span) return;
    const { name: title, parts } = DATA.spans.find(({ id }) => id === state.span);
    const shown = points.filter((point) => point.parts[state.span] && point.state !== "saturated");
    const rows = shown.map((point) => {
      const values = point.parts[state.span].map((each) => each[state.percent]);
      const sum = values.reduce((total, each) => total + each, 0);
      return { name: numbered(point), parts: values, sum, pick: () => choose(point.n),
        text: `${named(point)} · ${inMs(sum)}: ${charts.named(parts, values, " ms")}` };
    });
    const limit = limitOf(`${state.span}_p${DATA.percents[state.percent]}_s`);
    charts.stacks(box, { id: "parts", label: `Where ${title} goes`, rows, reach: 24,
      limit: limit === undefined ? null : { value: limit * 1000, text: `limit ${inMs(limit * 1000)}` },
      x: { domain: charts.domain(rows.map((row) => row.sum), false, true), log: false, text: three,
        title: `${title}, ms: requests around p${DATA.percents[state.percent]}` } });
    charts.legend(el("parts-legend"), parts.map((name, part) => ({ name, part }))
      .filter(({ part }) => rows.some((row) => row.parts[part] > 0)));
    const lost = points.filter((point) => point.state === "saturated").map(named);
    el("parts-told").textContent = lost.length
      ? `Saturated, so without a latency: ${lost.join("; ")}.` : "";
  }

  // ---- over time: hours where the clock means something, else shares of a run, as runs differ

  const hours = DATA.days;
  const length = (point) => hours ? point.time.end / 3600 : 100;
  const when = (from, to) => hours ? `${number(from, 3)} to ${number(to, 3)} h`
    : `${number(from, 3)} to ${number(to, 3)}% of the run`;

  // Lines that are not alone are called by their numbers.
  const tagOf = (point, all) => (all.length > 1 && point.label ? String(point.n) : "");

  function drawTime(points) {
    const there = points.filter((point) => point.time && point.time.rate.length);
    const whole = [0, Math.max(1e-9, ...there.map(length))];
    const zoom = (range) => {
      state.zoom = range && [Math.max(0, range[0]), Math.min(whole[1], range[1])];
      drawTime(points);
    };
    const x = { domain: state.zoom || whole, log: false, text: three,
      title: hours ? "hours" : "% of the run" };
    for (const [id, name, title, log] of [["time-rate", "rate", "arrivals per second", false],
      ["time-ttft", "ttft", `TTFT p${DATA.tails.ttft}, ms`, true],
      ["time-within", "within", "% within the limits", false]]) {
      const box = el(id);
      if (!box) continue;
      const series = there.map((point) => ({ name: named(point), look: pointLook(point),
        tag: tagOf(point, there),
        points: point.time[name].map((value, place) => ({
          x: length(point) * (place + 0.5) / point.time[name].length, y: value ?? NaN,
          text: `${named(point)} · ${title}: ${number(value, 3)}` })) }));
      const all = series.flatMap((each) => each.points.map((point) => point.y));
      const top = name === "rate" ? usual(all) : Infinity;
      const peak = series.flatMap((each) => each.points).filter((point) => point.y > top)
        .sort((a, b) => b.y - a.y)[0];
      charts.lines(box, { id, label: `${title} over time`, series, plain: true, height: 190, zoom,
        x, y: { domain: name === "within" ? [floor(all), 100]
          : charts.domain(all.map((value) => Math.min(value, top)), log, !log),
          log, text: three, title },
        peak: peak && { x: peak.x, y: top, text: `above: up to ${three(peak.y)} per second`,
          short: `up to ${three(peak.y)}` },
        limit: limitOver(name) });
    }
    if (el("time-bound")) charts.bands(el("time-bound"), { id: "time-bound", x, zoom,
      label: "What limits the engine over time", rows: there.map(boundRow) });
    if (el("windows")) charts.bands(el("windows"), { id: "windows", x, zoom,
      label: "Windows that keep the limits", cells: ["kept", "some", "missed", "empty"],
      rows: there.filter((point) => point.windows).map(windowRow) });
  }

  // Where a burst is several times what comes otherwise, the axis ends above the latter.
  function usual(values) {
    const found = values.filter(Number.isFinite).sort((a, b) => a - b);
    const most = 1.5 * found[Math.floor(0.95 * (found.length - 1))];
    return most > 0 && found[found.length - 1] > 2 * most ? most : Infinity;
  }

  // Where nearly all are within the limits, the axis begins at what tells them apart.
  const floor = (values) => [90, 50].find((low) => values.every((value) => !(value < low))) || 0;

  function limitOver(name) {
    const most = name === "ttft" ? limitOf(tail("ttft")) : undefined;
    if (most !== undefined) return { value: most * 1000, text: "limit", keep: "below" };
    const wanted = name === "within" && DATA.limits.slo_attainment;
    return wanted ? { value: wanted * 100, text: "wanted", keep: "above" } : null;
  }

  function boundRow(point) {
    const count = Math.max(0, ...point.time.bound.map((shares) => shares.length));
    const at = (place) => length(point) * place / count;
    return { name: numbered(point), slices: Array.from({ length: count }, (_, place) => {
      const parts = point.time.bound.map((shares) => (shares[place] || 0) / 100);
      return { from: at(place), to: at(place + 1), parts, text: `${named(point)} · ${
        when(at(place), at(place + 1))}: ${charts.named(DATA.bound,
        parts.map((share) => 100 * share), "%")}` };
    }) };
  }

  const FATES = ["keeps the limits in every run", "misses them in some runs", "misses the limits",
    "without requests"];

  function windowRow(point) {
    const size = point.windows.size * point.windows.each / 3600;
    const unit = hours ? 1 : 100 / (point.time.end / 3600);
    let place = 0;
    const slices = point.windows.runs.map(([fate, count]) => {
      const from = place * size * unit, to = (place + count) * size * unit;
      place += count;
      return { from, to, parts: [0, 1, 2, 3].map((each) => (each === fate ? 1 : 0)),
        text: `${named(point)} · ${when(from, to)}: ${FATES[fate]}` };
    });
    const kept = metric(point, "slo_windows_kept");
    const share = kept === null ? "" : `: ${number(100 * kept, 3)}% keep the limits`;
    return { name: `${numbered(point)}${share}`, slices };
  }

  function drawDistributions(points) {
    for (const [id, name, title] of [["cdf-ttft", "ttft", "TTFT, ms"],
      ["cdf-tpot", "tpot", "TPOT, ms"], ["cdf-e2e", "e2e", "E2E, s"]]) {
      const box = el(id), scale = name === "e2e" ? 1e-3 : 1;
      if (!box) continue;
      const series = points.filter((point) => point.q[name]).map((point) => ({ name: named(point),
        look: pointLook(point), tag: tagOf(point, points), points: point.q[name].map((value, place) => ({
          x: value * scale, y: DATA.ranks[place] * 100, text: `${named(point)} · ${
            number(DATA.ranks[place] * 100)}% within ${number(value * scale, 3)} ${
            title.split(", ")[1]}` })) }));
      const all = series.flatMap((each) => each.points.map((point) => point.x));
      charts.lines(box, { id, label: `Distribution of ${title}`, series, plain: true,
        x: { domain: charts.domain(all, true), log: true, text: three, title },
        y: { domain: [0, 100], log: false, text: (at) => number(at), title: "% at or below" } });
    }
  }

  report.drawChosen = () => {
    const points = chosen();
    report.drawLoad();
    report.drawDifferences();
    drawParts(points);
    drawTime(points);
    drawDistributions(points);
    const entries = points.map((point) => ({ name: numbered(point), look: pointLook(point), on: true,
      toggle: () => choose(point.n) }));
    for (const id of ["time-legend", "cdf-legend"]) if (el(id)) charts.legend(el(id), entries);
    if (el("bound-legend")) charts.legend(el("bound-legend"), DATA.bound.map((name, part) =>
      ({ name, part })).filter(({ part }) => points.some((point) => point.time
        && (point.time.bound[part] || []).some(Boolean))));
    for (const body of document.querySelectorAll("tbody.group"))
      body.hidden = !state.chosen.has(Number(body.dataset.n));
    const bare = points.filter((point) => !point.time).map((point) => point.n).join(", ");
    const without = bare ? ` Of many points this page has the curves of some; not of ${bare}.` : "";
    el("chosen").textContent = DATA.points.length === 1 ? "" : points.length
      ? `Shown from here on: ${points.map(numbered).join("; ")}.${without}`
      : "No point is chosen: tick some in the table.";
  };
})();
