"""The figures of merit of one run: ``summarise`` computes what ``METRICS`` defines.

Requests, tokens and steps are counted over one window of time, latencies over the requests that
arrived in it; ``sim.steady_state.measured_window`` says which. Latencies count from when the client
sent the request. Rejected requests and those that timed out have none.
Unfinished ones have an infinite E2E and TPOT, and an infinite TTFT and queueing delay when they
never came that far, so that a percentile which they reach is infinite rather than flattering.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil, isinf, isnan

import numpy as np
import numpy.typing as npt

from hardware.calibration import Calibration, CoveredRange
from sim.bins import counted
from sim.blocks import STEPS
from sim.latencies import SPANS, request_latencies, request_latency
from sim.percentiles import (
    PERCENTS,
    percentiles,
    unsupported,
    weighted_statistics,
)
from sim.result import FINISHED, REJECTED, TIMED_OUT, UNFINISHED, Result
from sim.scenario import Scenario
from sim.slo import Slo, attainments, good, is_met
from sim.steady_state import (
    SERVICE_TIMES,
    Window,
    arrived,
    measured_window,
    saturated,
    service_per_window,
)
from sim.step_totals import StepTotals, step_totals
from sim.timeline import timeline
from sim.token_gaps import token_gaps

__all__ = [
    "COVERAGE", "EXTRAPOLATED", "LATENCIES", "METRICS", "Slo", "caveats", "request_latencies",
    "summarise", "timeline",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LATENCIES = {
    "ttft": "time to first token: when the client has it, minus when it sent the request",
    "itl": "inter-token latency: gap between two consecutive tokens of a request, every gap alike",
    "tpot": "time per output token: (E2E - TTFT) / (output tokens - 1), of two tokens or more",
    "e2e": "end-to-end latency: when the client has the last token, minus when it sent the request",
    "queue": "queueing delay: start of the first step that worked on the request, minus when it "
    "reached the scheduler",
}
"""The five latencies; each has a mean and the percentiles of ``sim.percentiles.PERCENTS``."""

_STATISTICS = {"mean": "mean", **{f"p{percent}": f"{percent}th percentile" for percent in PERCENTS}}

COVERAGE = {
    "step_tokens_max": "tokens of the largest step of the run, padding included",
    "step_decodes_max": "most sequences that decoded in one step of the run, padding included",
    "context_tokens_max": "prompt plus output of the longest request that was worked on",
    "steps_outside_calibration": "steps of more tokens or decoding sequences than the calibration "
    "covers, NaN if it states no limit",
    "share_steps_outside_calibration": "these over all steps",
    "requests_outside_calibration": "requests worked on whose prompt plus output is longer than "
    "any context that the calibration covers, NaN if it states no limit",
    "service_per_window": "mean time from the first step of a request to its last, over window_s: "
    "above 1/3 rates are of a system that is still filling up; NaN if all arrived at once",
}
"""How far a run reaches, and how much of it lies beyond what it can tell: outside the range that
its calibration was measured on, or in a window that is too short. Larger is worse."""

METRICS = {
    "requests": "requests that arrived, warm-up included",
    "finished": "of these, finished",
    "rejected": "of these, rejected on arrival",
    "timed_out": "of these, given up by the client (client.timeout_s)",
    "unfinished": "of these, none of all that when the clock stopped",
    "preemptions": "times that a sequence lost its KV blocks, whole run",
    "measured_requests": "requests after the warm-up, less the rejected and those that timed out: "
    "latencies rest on them",
    **{
        f"{name}_{statistic}_s": f"{words} of the {meaning}"
        for name, meaning in LATENCIES.items()
        for statistic, words in _STATISTICS.items()
    },
    "offered_per_s": "requests that arrived in the window, per second",
    "offered_output_tokens_per_s": "tokens that they asked for, per second",
    "request_throughput_per_s": "requests finished in the window, per second",
    "output_tokens_per_s": "tokens generated in the window, per second",
    "total_tokens_per_s": "the same plus the prompt tokens of requests whose first token was in it",
    "goodput_per_s": "requests finished in the window within every limit of the slo, per second",
    "slo_attainment": "share of the requests after the warm-up that finished within every limit",
    "slo_met": "1 if the run kept everything that the slo asks for, 0 if not, NaN without an slo",
    "mean_batch_size": "sequences decoding or prefilling in a step, averaged over busy time",
    "kv_use_mean": "share of the KV blocks in use, averaged over the window and the replicas",
    "kv_use_max": "largest share of one replica's KV blocks held in a step of the window",
    "prefix_cache_hit_rate": "share of the prompt tokens, of the requests after the warm-up that "
    "were worked on, that the prefix cache had; 0 without one",
    "busy_share": "share of the window in which a replica computed, averaged over the replicas",
    "mfu": "FLOPs of all steps (padding and recomputation too) / (busy time x peak FLOP/s)",
    "mbu": "bytes that all steps moved through memory / (busy time x peak bandwidth)",
    "saturated": "1 if the queue grew for as long as requests came, NaN if too short to tell",
    **COVERAGE,
    "gpus": "GPUs of all replicas",
    "usd_per_hour": "price of all GPUs; NaN if not priced",
    "usd_per_million_output_tokens": "that price over the output tokens of the window",
    "window_s": "length of the window over which rates are counted",
    "duration_s": "simulated time from 0 until the clock stopped",
}
"""Every figure of merit and its meaning, in the order of the columns. Shares are within 0 to 1."""


EXTRAPOLATED = "prices are extrapolated"
"""How the caveat begins that tells of a run outside the range of its calibration."""


def summarise(
    result: Result,
    scenario: Scenario,
    slo: Slo | None = None,
    warmup_fraction: float = 0.1,
    warmup_s: float | None = None,
) -> dict[str, float]:
    """Compute every metric of ``METRICS``, in its order and units.

    Without ``slo`` every finished request is good. For the warm-up see ``measured_window``.
    Divisions by no time or by no request are NaN.

    Raises:
        ValueError: ``warmup_fraction`` is not in [0, 1), nothing arrived (after the warm-up), or
            the columns disagree.
    """
    window = measured_window(result, warmup_fraction, warmup_s)
    covered = scenario.calibration.covered
    steps = step_totals(result, window, scenario.price, covered)
    values = {
        **_counts(result, window),
        **_latency_statistics(result, window),
        **_rates(result, window, steps, good(result.requests, slo or Slo())),
        **_use(result, window, steps),
        **_efficiency(scenario, steps),
        **_coverage(result, covered, steps),
        "saturated": saturated(result, window),
        "service_per_window": service_per_window(result, window),
        "window_s": window.length_s,
        "duration_s": result.end_s,
    }
    shares = {} if slo is None else attainments(result.requests, window.measured, slo)
    values["slo_met"] = float("nan") if slo is None else float(is_met(values | shares, slo))
    hourly = _usd_per_hour(scenario)
    millions_per_hour = values["output_tokens_per_s"] * 3600 / 1e6
    values["usd_per_hour"] = hourly
    values["gpus"] = float(scenario.cluster.tensor_parallel_size * scenario.cluster.replicas)
    values["usd_per_million_output_tokens"] = _ratio(hourly, millions_per_hour)
    return {name: float(values[name]) for name in METRICS}


def caveats(values: Mapping[str, float], calibration: Calibration | None = None) -> list[str]:
    """What a reader of these metrics must know: saturation, short runs, thin percentiles, losses.

    With ``calibration``, also by how much the run leaves the range that it covers. Sentences
    without a semicolon, so that a column of a table can hold several.
    """
    notes = []
    if values["saturated"] > 0:
        notes.append(
            "saturated: the queue grows without bound, so latencies are of no steady state"
        )
    notes += _too_short(values)
    measured = values.get("measured_requests", float("inf"))
    thin = [f"p{percent}" for percent in unsupported(measured)]
    if thin:
        names = " and ".join(filter(None, (", ".join(thin[:-1]), thin[-1])))
        notes.append(f"{names} {'rest' if thin[1:] else 'rests'} on {int(measured)} requests")
    for name in ("unfinished", "rejected"):
        if values[name] > 0:
            count = int(values[name])
            notes.append(f"{count} request{'s' if count > 1 else ''} {name}")
    if values["timed_out"] > 0:
        count = int(values["timed_out"])
        notes.append(
            f"{count} request{'s' if count > 1 else ''} timed out: latencies are of the others"
        )
    if calibration is not None:
        notes += _outside(values, calibration)
    return notes


def _too_short(values: Mapping[str, float]) -> list[str]:
    """What cannot be told of so short a run: rates of an engine in full swing, saturation."""
    notes = []
    part = values.get("service_per_window", float("nan"))
    if part * SERVICE_TIMES > 1:
        times = "0 s" if isinf(part) else f"less than {ceil(1 / part)} x the mean time in service"
        notes.append(
            f"the run is short: its window is {times}, so rates are of a system still filling up"
        )
    if isnan(values["saturated"]):
        notes.append("the run is too short to tell whether it is saturated")
    return notes


def _outside(values: Mapping[str, float], calibration: Calibration) -> list[str]:
    """One sentence: how many steps and requests are extrapolated, and how far at most."""
    reached = [
        int(values[name]) for name in ("step_tokens_max", "context_tokens_max", "step_decodes_max")
    ]
    sentences = calibration.outside(*reached)
    if not sentences:
        return []
    counts = []
    if values["steps_outside_calibration"] > 0:
        percent = 100 * values["share_steps_outside_calibration"]
        counts.append(f"{values['steps_outside_calibration']:.0f} steps ({percent:.3g}%)")
    if values["requests_outside_calibration"] > 0:
        counts.append(f"{values['requests_outside_calibration']:.0f} requests")
    return [f"{EXTRAPOLATED} for {' and '.join(counts)}: {', '.join(sentences)}"]


def _counts(result: Result, window: Window) -> dict[str, float]:
    status = np.asarray(result.requests["status"])
    present = arrived(result)
    lost = np.isin(status, (REJECTED, TIMED_OUT))
    return {
        "requests": int(present.sum()),
        "finished": int((status == FINISHED).sum()),
        "rejected": int((status == REJECTED).sum()),
        "timed_out": int((status == TIMED_OUT).sum()),
        "unfinished": int((present & (status == UNFINISHED)).sum()),
        "preemptions": int(result.requests["preemptions"].sum(dtype=np.int64)),
        "measured_requests": int((window.measured & ~lost).sum()),
    }


def _latency_statistics(result: Result, window: Window) -> dict[str, float]:
    statistics = {}
    for name in SPANS:
        sample = request_latency(result, name)
        sample = sample[window.measured & ~np.isnan(sample)]
        mean = float(sample.mean()) if len(sample) else float("nan")
        statistics[name] = (mean, percentiles(sample))

    statistics["itl"] = weighted_statistics(partial(_gaps, result, window))
    return {
        f"{name}_{statistic}_s": float(value)
        for name, (mean, tail) in statistics.items()
        for statistic, value in zip(_STATISTICS, (mean, *tail), strict=True)
    }


def _gaps(result: Result, window: Window) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
    for each in token_gaps(result):
        inside = each.within(window.start_s, window.stop_s)
        yield inside.gap_s, inside.weight


def gap_counts(result: Result, window: Window) -> dict[int, int]:
    """Count the token gaps of the window by ``sim.bins.bin_of``: what runs are pooled by."""
    return counted(_gaps(result, window))


def _rates(result: Result, window: Window, steps: StepTotals, good: Mask) -> dict[str, float]:
    finished = window.holds(result.requests["finish_s"])
    begun = window.holds(result.requests["first_token_s"])
    resumed = sum(
        int(window.holds(np.asarray(result.resumed_end_s[row : row + STEPS])).sum())
        for row in range(0, len(result.resumed_end_s), STEPS)
    )
    came = window.holds(result.requests["arrival_s"])
    asked = int(result.requests["output_tokens"][came].sum(dtype=np.int64))
    prompts = int(result.requests["prompt_tokens"][begun].sum(dtype=np.int64))
    generated = steps.decoded_tokens + int(begun.sum()) + resumed
    return {
        "offered_per_s": _ratio(int(came.sum()), window.length_s),
        "offered_output_tokens_per_s": _ratio(asked, window.length_s),
        "request_throughput_per_s": _ratio(int(finished.sum()), window.length_s),
        "output_tokens_per_s": _ratio(generated, window.length_s),
        "total_tokens_per_s": _ratio(generated + prompts, window.length_s),
        "goodput_per_s": _ratio(int((finished & good).sum()), window.length_s),
        "slo_attainment": _ratio(int((window.measured & good).sum()), int(window.measured.sum())),
    }


def _use(result: Result, window: Window, steps: StepTotals) -> dict[str, float]:
    whole_s = window.length_s * result.replicas
    begun = window.measured & ~np.isnan(result.requests["first_scheduled_s"])
    cached, asked = (
        float(result.requests[name][begun].sum(dtype=np.int64))
        for name in ("cached_tokens", "prompt_tokens")
    )
    return {
        "mean_batch_size": _ratio(steps.batch_s, steps.busy_s),
        "kv_use_mean": _ratio(steps.kv_blocks_s, whole_s * result.num_gpu_blocks),
        "kv_use_max": steps.kv_blocks_max / result.num_gpu_blocks,
        "prefix_cache_hit_rate": _ratio(cached, asked),
        "busy_share": _ratio(steps.busy_s, whole_s),
    }


def _efficiency(scenario: Scenario, steps: StepTotals) -> dict[str, float]:
    """MFU and MBU of one rank over the busy time of the whole run: warm-up and drain included.

    Model FLOPs utilisation after Chowdhery et al., "PaLM" (2022), appendix B, except that
    whatever was computed counts, and idle time does not (``busy_share`` says how much there was).
    """
    peak = scenario.gpu.peak(scenario.precision.main_compute)
    return {
        "mfu": _ratio(steps.flops, steps.run_busy_s * peak),
        "mbu": _ratio(steps.moved_bytes, steps.run_busy_s * scenario.gpu.bandwidth_bytes_per_s),
    }


def _coverage(result: Result, covered: CoveredRange | None, steps: StepTotals) -> dict[str, float]:
    """How large steps and contexts were, and how many of them the calibration does not cover.

    Over the whole run, as every step decides when the next ones come. Columns know the context of
    a request, not that of each of its steps, so contexts are counted by request.
    """
    context = result.requests["prompt_tokens"] + result.requests["output_tokens"]
    context = context[~np.isnan(result.requests["first_scheduled_s"])]
    outside = long = float("nan")
    if covered is not None:
        outside = float(steps.outside)
        long = float((context > covered.max_context_tokens).sum())
    return {
        "step_tokens_max": float(steps.step_tokens_max),
        "step_decodes_max": float(steps.step_decodes_max),
        "context_tokens_max": float(context.max(initial=0)),
        "steps_outside_calibration": outside,
        "share_steps_outside_calibration": _ratio(outside, float(steps.steps)),
        "requests_outside_calibration": long,
    }


def _usd_per_hour(scenario: Scenario) -> float:
    cluster = scenario.cluster
    price = cluster.gpu_usd_per_hour or scenario.gpu.usd_per_hour
    gpus = cluster.tensor_parallel_size * cluster.replicas
    return float("nan") if price is None else price * gpus


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
