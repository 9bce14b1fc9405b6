"""How full a cluster was over time: exact integrals of the recorded columns."""

import numpy as np
import numpy.typing as npt

from sim.result import REJECTED, Result

Floats = npt.NDArray[np.float64]


def segment_integral(result: Result, level: Floats, times_s: Floats) -> Floats:
    """Integral from 0 to each of ``times_s`` of a level that holds during segments, 0 while idle.

    ``level`` has one row per segment; replicas add up. The unit is that of ``level`` times seconds.
    """
    replica = np.asarray(result.segments["replica"], dtype=np.int64)
    start_s, end_s = _span(result)
    area = level * (end_s - start_s)
    total = np.zeros(len(times_s))
    for name in np.unique(replica):
        rows = np.flatnonzero(replica == name)
        after = np.cumsum(area[rows])
        knots = np.column_stack((start_s[rows], end_s[rows])).ravel()
        heights = np.column_stack((after - area[rows], after)).ravel()
        total += np.interp(times_s, knots, heights)
    return total


def kv_level(result: Result) -> Floats:
    """Mean KV use (share of a replica's blocks) during each segment.

    Recorded are the blocks held in a segment's last step. Over several steps blocks are only added;
    the level is then halfway between what the segment before held, if that was less, and its own.
    The error is at most half of what the segment added.
    """
    replica = np.asarray(result.segments["replica"], dtype=np.int64)
    steps = np.asarray(result.segments["steps"], dtype=np.int64)
    blocks = np.asarray(result.segments["kv_blocks"], dtype=np.float64)
    first = blocks.copy()
    follows = (replica[1:] == replica[:-1]) & (steps[1:] > 1)
    first[1:] = np.where(follows, np.minimum(blocks[:-1], blocks[1:]), blocks[1:])
    return (first + blocks) / (2 * result.num_gpu_blocks)


def timeline(result: Result, bins: int = 200) -> dict[str, Floats]:
    """Averages over ``bins`` equal stretches of the run, from 0 to the stop of the clock.

    Columns: ``time_s`` (middle of the bin), ``kv_use`` (share of all replicas' blocks),
    ``running`` (requests being served, from their first step to their last, all replicas) and
    ``waiting`` (requests that arrived and were not worked on yet, at the client or beyond). Who is
    given up leaves both. A run of no duration has
    empty columns.

    Raises:
        ValueError: ``bins`` is not positive.
    """
    if bins < 1:
        raise ValueError(f"bins = {bins}, expected at least 1")
    edges = np.linspace(0.0, result.end_s, bins + 1 if result.end_s > 0 else 1)
    width = np.diff(edges)
    accepted = np.asarray(result.requests["status"]) != REJECTED

    def integral(times: Floats) -> Floats:
        return _count_integral(times[~np.isnan(times)], edges)

    def column(name: str) -> Floats:
        values: Floats = np.asarray(result.requests[name], dtype=np.float64)[accepted]
        return values

    given_up = column("timed_out_s")
    arrived = integral(column("arrival_s"))
    finished = integral(np.fmin(column("finish_s"), given_up))  # or given up
    started = integral(np.fmin(column("first_scheduled_s"), given_up))
    kv = segment_integral(result, kv_level(result), edges) / result.replicas
    return {
        "time_s": (edges[1:] + edges[:-1]) / 2,
        "kv_use": np.diff(kv) / width,
        "running": np.diff(started - finished) / width,
        "waiting": np.diff(arrived - started) / width,
    }


def _span(result: Result) -> tuple[Floats, Floats]:
    return (
        np.asarray(result.segments["start_s"], dtype=np.float64),
        np.asarray(result.segments["end_s"], dtype=np.float64),
    )


def _count_integral(events_s: Floats, times_s: Floats) -> Floats:
    """Integral from 0 to each time of the number of events so far."""
    events = np.sort(events_s)
    sums = np.concatenate(([0.0], np.cumsum(events)))
    count = np.searchsorted(events, times_s)
    return np.asarray(times_s * count - sums[count], dtype=np.float64)
