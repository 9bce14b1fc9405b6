"""How full a cluster was over time: exact integrals of the recorded columns."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from sim.measuring.successive import before, growth
from sim.recording.blocks import Block, blocks
from sim.recording.result import REJECTED, Result

Floats = npt.NDArray[np.float64]


class KvLevel:
    """Mean number of KV blocks in use during each segment, block after block.

    Recorded are the KV blocks held in a segment's last step. Over several steps they are only
    added; the level is then halfway between what the segment before held, if that was less, and
    its own. The error is at most half of what the segment added.
    """

    def __init__(self) -> None:
        self._before = np.inf

    def blocks(self, block: Block) -> Floats:
        """The level of each segment of the block that follows the last one: blocks, (segments,)."""
        held = block.floats("kv_blocks")
        earlier = before(held, np.inf if block.begins else self._before)
        first = np.where(block.ints("steps") > 1, np.minimum(earlier, held), held)
        self._before = float(held[-1])
        return (first + held) / 2


def timeline(result: Result, bins: int = 200) -> dict[str, Floats]:
    """Averages over ``bins`` equal stretches of the run, from 0 to the stop of the clock.

    Columns: ``time_s`` (middle of the bin), ``kv_use`` (share of a replica's KV blocks in use,
    averaged over the replicas), ``running`` (requests being served, from their first step to their
    last, all replicas) and ``waiting`` (requests that arrived and were not worked on yet, at the
    client or beyond). Who is given up leaves both. A run of no duration has empty columns.

    Raises:
        ValueError: ``bins`` is not positive.
    """
    if bins < 1:
        raise ValueError(f"bins = {bins}, expected at least 1")
    edges = np.linspace(0.0, result.end_s, bins + 1 if result.end_s > 0 else 1)
    width = growth(edges)
    accepted = np.asarray(result.requests["status"]) != REJECTED

    def integral(times: Floats) -> Floats:
        """Return the integral of how many passed ``times``, at each edge."""
        return _count_integral(times[accepted & ~np.isnan(times)], edges)

    given_up = result.requests["timed_out_s"]
    arrived = integral(result.requests["arrival_s"])
    finished = integral(np.fmin(result.requests["finish_s"], given_up))  # or given up
    started = integral(np.fmin(result.requests["first_scheduled_s"], given_up))
    kv = _kv_integral(result, edges)
    return {
        "time_s": (edges[1:] + edges[:-1]) / 2,
        "kv_use": growth(kv) / width,
        "running": growth(started - finished) / width,
        "waiting": growth(arrived - started) / width,
    }


def _kv_integral(result: Result, times_s: Floats) -> Floats:
    """Integral from 0 to each of ``times_s`` of the share of KV blocks in use, over replicas."""
    level = KvLevel()
    counts = Counter(result.replicas["num_gpu_blocks"].tolist())
    totals = {size: np.zeros(len(times_s)) for size in sorted(counts)}  # by blocks of a replica
    for block in blocks(result):
        start_s, end_s = block.floats("start_s"), block.floats("end_s")
        area = level.blocks(block) * (end_s - start_s)
        after = np.cumsum(area)
        knots = np.column_stack((start_s, end_s)).ravel()
        heights = np.column_stack((after - area, after)).ravel()
        # 0 before the block, its whole area after
        own = totals[int(result.replicas["num_gpu_blocks"][block.replica])]
        own += np.interp(times_s, knots, heights)
    parts = [
        total / (counts[size] * size) * (counts[size] / counts.total())
        for size, total in totals.items()
    ]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _count_integral(events_s: Floats, times_s: Floats) -> Floats:
    """Integral from 0 to each time of the number of events so far."""
    place, rows = np.searchsorted(times_s, events_s), len(times_s) + 1
    count = np.cumsum(np.bincount(place, minlength=rows))[:-1]
    sums = np.cumsum(np.bincount(place, events_s, minlength=rows))[:-1]
    return np.asarray(times_s * count - sums, dtype=np.float64)
