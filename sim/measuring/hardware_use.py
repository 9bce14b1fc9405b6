"""How well GPUs and KV blocks were used, and what they cost; replicas may be of several kinds.

Shares are weighted by what they are shares of: of one kind of replica every figure is the plain
quotient, to the last bit.
"""

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from math import nan

import numpy as np

from sim.measuring.steady_state import Window
from sim.measuring.step_totals import StepTotals
from sim.recording.result import Result
from sim.settings.scenario import Kind

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


def ratio(part: float, whole: float) -> float:
    """Return a quotient; NaN where there is nothing to divide by."""
    return part / whole if whole else float("nan")


def weighted_mean(pairs: Iterable[tuple[float, float]]) -> float:
    """Mean of ``(value, weight)``; values without weight do not count, and NaN is none at all."""
    counted = [(value, weight) for value, weight in pairs if weight > 0]
    whole = sum(weight for _, weight in counted)
    return sum(value * (weight / whole) for value, weight in counted) if counted else float("nan")


def use_of_blocks(
    result: Result, window: Window, kinds: SequenceOf[Kind], totals: SequenceOf[StepTotals]
) -> dict[str, float]:
    """Return batch size, and shares of KV blocks, of prompts in the cache and of busy time."""
    busy_s = sum(each.busy_s for each in totals)
    begun = window.measured & ~np.isnan(result.requests["first_scheduled_s"])
    cached, asked = (
        float(result.requests[name][begun].sum(dtype=np.int64))
        for name in ("cached_tokens", "prompt_tokens")
    )
    blocks = [int(result.replicas["num_gpu_blocks"][kind.numbers[0]]) for kind in kinds]
    of_each = list(zip(kinds, blocks, totals, strict=True))
    return {
        "mean_batch_size": ratio(sum(each.batch_s for each in totals), busy_s),
        "kv_use_mean": weighted_mean(
            (
                ratio(each.kv_blocks_s, window.length_s * len(kind.numbers) * count),
                len(kind.numbers),
            )
            for kind, count, each in of_each
        ),
        "kv_use_max": max(each.kv_blocks_max / count for _, count, each in of_each),
        "prefix_cache_hit_rate": ratio(cached, asked),
        "busy_share": ratio(busy_s, window.length_s * len(result.replicas["steps"])),
    }


def efficiency(kinds: SequenceOf[Kind], totals: SequenceOf[StepTotals]) -> dict[str, float]:
    """MFU and MBU over the busy time of the whole run: warm-up and drain included.

    Model FLOPs utilisation after Chowdhery et al., "PaLM" (2022), appendix B, except that
    whatever was computed counts, and idle time does not (``busy_share`` says how much there was).
    Over several kinds it is the FLOPs of all ranks over what all of them could have computed while
    they were busy: the mean of the kinds' own, weighted with ranks x busy time x peak.
    """
    flops, moved = [], []
    for kind, each in zip(kinds, totals, strict=True):
        pool = kind.pool
        peak_flops = each.run_busy_s * pool.gpu.peak(pool.precision.main_compute)
        peak_bytes = each.run_busy_s * pool.gpu.bandwidth_bytes_per_s
        stages = pool.pipeline_parallel_size
        gpus = pool.tensor_parallel_size * stages
        # What one rank would have had to process is shared out over the stages.
        flops.append((ratio(each.flops / stages, peak_flops), peak_flops * gpus))
        moved.append((ratio(each.moved_bytes / stages, peak_bytes), peak_bytes * gpus))
    return {"mfu": weighted_mean(flops), "mbu": weighted_mean(moved)}


def coverage(
    result: Result, kinds: SequenceOf[Kind], totals: SequenceOf[StepTotals]
) -> dict[str, float]:
    """How large steps and contexts were, and how many of them the calibrations do not cover.

    Over the whole run, as every step decides when the next ones come. Columns know the context of
    a request, not that of each of its steps, so contexts are counted by request.
    """
    requests = result.requests
    worked = ~np.isnan(requests["first_scheduled_s"])
    context = requests["prompt_tokens"] + requests["output_tokens"]
    found = []
    for kind, each in zip(kinds, totals, strict=True):
        covered = kind.pool.calibration.covered
        if covered is None:
            continue
        own = worked if len(kinds) == 1 else worked & np.isin(requests["replica"], kind.numbers)
        long = (context[own] > covered.max_context_tokens).sum()
        found.append((float(each.outside), float(long)))
    outside, long = (sum(each) for each in zip(*found, strict=True)) if found else (nan, nan)
    return {
        "step_tokens_max": float(max(each.step_tokens_max for each in totals)),
        "step_decodes_max": float(max(each.step_decodes_max for each in totals)),
        "context_tokens_max": float(context[worked].max(initial=0)),
        "steps_outside_calibration": outside,
        "share_steps_outside_calibration": ratio(outside, sum(each.steps for each in totals)),
        "requests_outside_calibration": long,
    }


def usd_per_hour(kinds: SequenceOf[Kind]) -> float:
    """Price of all GPUs; NaN if that of one kind is not known."""
    return sum(kind.pool.usd_per_hour for kind in kinds)
