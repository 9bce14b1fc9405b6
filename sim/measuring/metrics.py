"""The figures of merit of one run: ``summarise`` computes what ``METRICS`` defines.

Requests, tokens and steps are counted over one window of time, latencies over the requests that
arrived in it; ``sim.measuring.steady_state.measured_window`` says which. Latencies count from
when the client sent the request. Rejected requests and those that timed out have none.
Unfinished ones have an infinite E2E and TPOT, and an infinite TTFT and queueing delay when they
never came that far, so that a percentile which they reach is infinite rather than flattering.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from sim.measuring.hardware_use import (
    COVERAGE,
    coverage,
    efficiency,
    ratio,
    usd_per_hour,
    use_of_blocks,
)
from sim.measuring.latencies import LATENCIES, STATISTICS, latency_statistics
from sim.measuring.routing_metrics import ROUTING, routing_metrics
from sim.measuring.slo import Slo, attainments, good, is_met
from sim.measuring.steady_state import (
    Window,
    arrived,
    measured_window,
    saturated,
    service_per_window,
)
from sim.measuring.step_totals import StepTotals, step_totals
from sim.measuring.transfer_use import transfer_use
from sim.recording.blocks import STEPS
from sim.recording.result import FINISHED, REJECTED, TIMED_OUT, UNFINISHED, Result
from sim.recording.store_use import STORE_METRICS, store_metrics
from sim.recording.tiers import TIER_METRICS, tier_metrics
from sim.settings.scenario import Kind, Scenario

Mask = npt.NDArray[np.bool_]

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
        for statistic, words in STATISTICS.items()
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
    **ROUTING,
    "acceptance_length_mean": "tokens of a sequence in a decode step, averaged over the steps of "
    "the window: its accepted drafts and one; 1 without drafts",
    "accepted_drafts": "drafts that became tokens in the window",
    "wasted_drafts": "drafts verified in the window that did not: wrong ones, and right ones "
    "behind the last token of an answer",
    "busy_share": "share of the window in which a replica computed, averaged over the replicas",
    "mfu": "FLOPs of all steps (padding and recomputation too) / (busy time x peak FLOP/s), of "
    "all GPUs together",
    "mbu": "bytes that all steps moved through memory / (busy time x peak bandwidth), of all GPUs "
    "together",
    "saturated": "1 if the queue grew for as long as requests came, NaN if too short to tell",
    **COVERAGE,
    "gpus": "GPUs of all replicas",
    "usd_per_hour": "price of all GPUs; NaN if one is not priced",
    "usd_per_million_output_tokens": "that price over the output tokens of the window",
    "window_s": "length of the window over which rates are counted",
    "duration_s": "simulated time from 0 until the clock stopped",
}
"""Every figure of merit and its meaning, in the order of the columns. Shares are within 0 to 1."""

ALL_METRICS = METRICS | TIER_METRICS | STORE_METRICS
"""With those that are there only where the KV cache has a tier below the GPU."""

POOL_SHARES = {
    "request_share": "share of the requests sent to a replica that were sent to this pool",
    "output_token_share": "share of the tokens generated in the window that this pool generated",
}
"""What pools have besides every metric, which counts their own replicas and requests alone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run, or a part of it, was worth."""

    metrics: dict[str, float]
    gaps: dict[int, int]
    """Token gaps of the window by ``sim.measuring.bins.bin_of``: what runs are pooled by."""


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
    return measured(result, scenario, window, slo).metrics


def measured(result: Result, scenario: Scenario, window: Window, slo: Slo | None) -> Measured:
    """Measure a run over its window: see ``summarise``, which says what it raises."""
    return _measured(result, scenario.kinds, window, slo)


def summarise_pools(
    result: Result,
    scenario: Scenario,
    slo: Slo | None = None,
    warmup_fraction: float = 0.1,
    warmup_s: float | None = None,
) -> list[dict[str, float]]:
    """Compute every metric of each pool, over the window of the whole run, after ``POOL_SHARES``
    and, where pools have roles, ``TRANSFER_METRICS``.

    Requests are those that were sent to its replicas; who was rejected was sent to none. Raises
    what ``summarise`` raises.
    """
    window = measured_window(result, warmup_fraction, warmup_s)
    return [each.metrics for each in measured_pools(result, scenario, window, slo)]


def measured_pools(
    result: Result, scenario: Scenario, window: Window, slo: Slo | None
) -> list[Measured]:
    """Measure each pool of a run over its window: see ``summarise_pools``."""
    found = []
    for pool, numbers in zip(scenario.pools, scenario.numbers, strict=True):
        sent = result.sent_to(numbers)
        own = replace(window, measured=window.measured[sent])
        kind = Kind(pool, np.arange(len(numbers)))
        found.append(_measured(result.of_replicas(numbers), (kind,), own, slo))
    requests = sum(each.metrics["requests"] for each in found)
    tokens_per_s = sum(each.metrics["output_tokens_per_s"] for each in found)
    shares = [
        {
            "request_share": ratio(each.metrics["requests"], requests),
            "output_token_share": ratio(each.metrics["output_tokens_per_s"], tokens_per_s),
        }
        for each in found
    ]
    return [
        Measured({**share, **transfers, **each.metrics}, each.gaps)
        for share, each, transfers in zip(
            shares, found, _transfers(result, scenario, window), strict=True
        )
    ]


def _transfers(result: Result, scenario: Scenario, window: Window) -> list[dict[str, float]]:
    """``TRANSFER_METRICS`` of each pool; nothing where pools have no roles."""
    pools = zip(scenario.pools, scenario.numbers, strict=True)
    if not scenario.has_roles:
        return [{} for _ in pools]
    return [transfer_use(result.requests, pool, numbers, window) for pool, numbers in pools]


def _measured(result: Result, kinds: SequenceOf[Kind], window: Window, slo: Slo | None) -> Measured:
    totals = step_totals(result, window, kinds)
    latencies, gaps = latency_statistics(result, window)
    service = service_per_window(result, window)
    values = {
        **_counts(result, window),
        **latencies,
        **_rates(result, window, totals, good(result.requests, slo or Slo())),
        **use_of_blocks(result, window, kinds, totals),
        **routing_metrics(result, window),
        **efficiency(kinds, totals),
        **_drafts(totals),
        **coverage(result, kinds, totals),
        "saturated": saturated(result, window, service),
        "service_per_window": service,
        "window_s": window.length_s,
        "duration_s": result.end_s,
    }
    shares = {} if slo is None else attainments(result.requests, window.measured, slo)
    values["slo_met"] = float("nan") if slo is None else float(is_met(values | shares, slo))
    hourly = usd_per_hour(kinds)
    millions_per_hour = values["output_tokens_per_s"] * 3600 / 1e6
    values["usd_per_hour"] = hourly
    values["gpus"] = float(sum(kind.pool.gpus for kind in kinds))
    values["usd_per_million_output_tokens"] = ratio(hourly, millions_per_hour)
    own = tier_metrics(result.requests, result.replicas, window.measured, result.end_s)
    own |= store_metrics(result.requests, result.replicas, window.measured, result.end_s)
    return Measured({name: float(values[name]) for name in METRICS} | own, gaps)


def _counts(result: Result, window: Window) -> dict[str, float]:
    status = np.asarray(result.requests["status"])
    present = arrived(result)
    lost = (status == REJECTED) | (status == TIMED_OUT)
    return {
        "requests": int(present.sum()),
        "finished": int((status == FINISHED).sum()),
        "rejected": int((status == REJECTED).sum()),
        "timed_out": int((status == TIMED_OUT).sum()),
        "unfinished": int((present & (status == UNFINISHED)).sum()),
        "preemptions": int(result.requests["preemptions"].sum(dtype=np.int64)),
        "measured_requests": int((window.measured & ~lost).sum()),
    }


def _drafts(totals: SequenceOf[StepTotals]) -> dict[str, float]:
    """What came of drafts."""
    decodes = sum(each.decodes for each in totals)
    gained = sum(each.gained_tokens for each in totals)
    accepted = gained - decodes
    return {
        "acceptance_length_mean": ratio(gained, decodes),
        "accepted_drafts": accepted,
        "wasted_drafts": sum(each.drafted for each in totals) - accepted,
    }


def _rates(
    result: Result, window: Window, totals: SequenceOf[StepTotals], good: Mask
) -> dict[str, float]:
    finished = window.holds(result.requests["finish_s"])
    begun = window.holds(result.requests["first_token_s"])
    resumed = sum(
        int(window.holds(np.asarray(result.resumed_end_s[row : row + STEPS])).sum())
        for row in range(0, len(result.resumed_end_s), STEPS)
    )
    came = window.holds(result.requests["arrival_s"])
    asked = int(result.requests["output_tokens"][came].sum(dtype=np.int64))
    prompts = int(result.requests["prompt_tokens"][begun].sum(dtype=np.int64))
    decoded = sum(each.decoded_tokens for each in totals)
    generated = decoded + int(begun.sum()) + resumed
    return {
        "offered_per_s": ratio(int(came.sum()), window.length_s),
        "offered_output_tokens_per_s": ratio(asked, window.length_s),
        "request_throughput_per_s": ratio(int(finished.sum()), window.length_s),
        "output_tokens_per_s": ratio(generated, window.length_s),
        "total_tokens_per_s": ratio(generated + prompts, window.length_s),
        "goodput_per_s": ratio(int((finished & good).sum()), window.length_s),
        "slo_attainment": ratio(int((window.measured & good).sum()), int(window.measured.sum())),
    }
