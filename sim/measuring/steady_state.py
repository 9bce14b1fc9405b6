"""What part of a run is measured, and whether the run had a steady state at all."""

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from sim.measuring.successive import growth
from sim.recording.blocks import blocks
from sim.recording.result import REJECTED, UNFINISHED, Result

Floats = npt.NDArray[np.float64]

BATCHES = 10
"""Batches of arrivals over which the growth of the queue is tested."""

STUDENT_T = 2.306004135204166
"""0.975 quantile of Student's t with ``BATCHES - 2`` degrees of freedom."""

LATE_SHARE = 0.25
"""Smallest share of the growth that falls on the second half of the batches."""

STEPS = 3
"""Smallest growth of the queueing delay, in steps of the engine."""

SERVICE_TIMES = 3
"""Shortest window whose rates and queue say something, in mean times in service."""


@dataclass(frozen=True, slots=True)
class Window:
    """The measured part of a run."""

    measured: npt.NDArray[np.bool_]
    """One entry per request: arrived after the warm-up."""
    start_s: float
    """Arrival of the first measured request."""
    stop_s: float
    """Arrival of the last request (of sessions, while load comes as ever); of a burst, the end of
    its service."""
    burst: bool
    """All arrived at one instant."""

    @property
    def length_s(self) -> float:
        """Seconds of the half-open window ``(start_s, stop_s]``."""
        return self.stop_s - self.start_s

    def holds(self, times_s: Floats) -> npt.NDArray[np.bool_]:
        """Which of ``times_s``, of any shape, lie in the window; NaN does not."""
        return (times_s > self.start_s) & (times_s <= self.stop_s)


def measured_window(
    result: Result, warmup_fraction: float, warmup_s: float | None = None
) -> Window:
    """Drop the warm-up and choose the stretch of time over which rates are counted.

    The first ``warmup_fraction`` of the requests, in order of arrival, are not measured; with
    ``warmup_s``, it is instead who arrives before that simulated time. Rates
    count what happens from the first measured arrival to the last arrival, whoever caused it:
    the draining of the system does not bias them, and the window depends on arrivals alone, not
    on how they were served. In a closed loop all users are active within it: with sessions, what
    is asked after the first user found no session left is not measured, and where sessions come by
    themselves, what is asked after the last has begun. Only when all
    requests arrive at one instant there is no such stretch: then no share is dropped, and the
    window reaches to the end of the service. ``service_per_window`` tells whether the window is
    long enough to say something.

    Raises:
        ValueError: ``warmup_fraction`` is not in [0, 1), or nothing arrived, or not after the
            warm-up.
    """
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction = {warmup_fraction}, expected at least 0 and below 1")
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)
    order = _arrival_order(result)
    if not len(order):
        raise ValueError("no request arrived, expected at least one to measure")
    last_s = float(arrival_s[order[-1]])
    together = bool(arrival_s[order[0]] == last_s)
    if warmup_s is not None:
        kept = order[np.searchsorted(arrival_s[order], warmup_s) :]
    else:
        kept = order if together else order[int(warmup_fraction * len(order)) :]
    if not len(kept):
        raise ValueError(
            f"warmup_s = {warmup_s:g} leaves nothing to measure, expected at most {last_s:g}: the "
            "last request arrives then"
        )
    start_s = float(arrival_s[kept[0]])
    stop_s = _end_of_service_s(result) if together else last_s
    measured = np.zeros(len(arrival_s), dtype=np.bool_)
    measured[kept] = True
    return Window(measured, start_s, stop_s, together)


def arrived(result: Result) -> npt.NDArray[np.bool_]:
    """Which requests of the workload arrived before the clock stopped: shape (requests,)."""
    before = np.asarray(result.requests["arrival_s"], dtype=np.float64) <= result.end_s
    ended = np.asarray(result.requests["status"]) != UNFINISHED
    either: npt.NDArray[np.bool_] = before | ended
    return either


def service_per_window(result: Result, window: Window) -> float:
    """Mean time in service over the length of the window: NaN for a burst, inf for no length.

    In service is a measured request from its first step to its finish, or to the stop of the
    clock. Time in the queue does not count: it is long because of the load, not because the
    system is still filling up.
    """
    begun_s = np.asarray(result.requests["first_scheduled_s"], dtype=np.float64)
    service_s = _left_s(result)
    service_s[np.isnan(service_s)] = result.end_s
    service_s -= begun_s
    service_s = service_s[window.measured & ~np.isnan(service_s)]
    if window.burst or not len(service_s):
        return float("nan")
    return float(service_s.mean()) / window.length_s if window.length_s else float("inf")


def saturated(result: Result, window: Window, service: float | None = None) -> float:
    """1 if the queue grew for as long as requests came, 0 if not, NaN if that cannot be told.

    The queue is the number of requests that arrived and were not worked on yet; requests in
    service do not count, so that a system that is filling up is not saturated. It is read at
    each measured arrival and averaged over ``BATCHES`` equal batches of them. Saturated means
    that

    - the mean growth from batch to batch exceeds 0 by ``STUDENT_T`` standard errors,
    - at least ``LATE_SHARE`` of it falls on the second half: a queue that grew and came to rest,
      or shrank again as that of a replayed trace after its peak, is not saturated, and
    - the queueing delay (queue over arrival rate, Little 1961) grew by more than ``STEPS`` steps,
      of the length that an arrival sees. The growth of a saturated queue is proportional to the
      run, so that this hides no overload from a run that is long enough.

    Tested are increments and not levels, because the level of a queue depends on its past, while
    increments are nearly independent at critical load and cancel below it. M/M/1 queues that
    start empty, with a warm-up of 10%, were called saturated in these shares of the runs (2000
    each; 400 of 10000 requests, 60 of 100000; standard errors up to 1%, 3% and 4%), by load over
    capacity:

        requests   0.9     0.95    1       1.02    1.05    1.2
        400        0.7%    2%      8%      12%     20%     72%
        1000       0.2%    2%      9%      15%     28%     95%
        10000      0       0       7%      34%     85%     100%
        100000     0       0       10%     97%     100%    100%

    The columns up to 0.95 are false alarms. M/M/1 is a hard case: with steadier arrivals or
    lengths an overload shows sooner, and without luck if both are constant.

    ``service`` is ``service_per_window``, for those who know it already.

    By definition 0 for a closed loop, whose queue is bounded by its users, and for a burst, whose
    queue only shrinks. NaN below two arrivals per batch, or when the window is shorter than
    ``SERVICE_TIMES`` mean times in service.
    """
    if result.closed_loop or window.burst:
        return 0.0
    order = _by_arrival(result)
    # Of a pool, too, while load comes as ever: that is said of the whole run.
    order = order[np.asarray(result.requests["arrival_s"])[order] <= window.stop_s]
    first = len(order) - int(window.measured.sum())
    if service is None:
        service = service_per_window(result, window)
    if service * SERVICE_TIMES > 1 or len(order) - first < 2 * BATCHES + 1:
        return float("nan")
    measured = len(order) - first
    starts = first + np.linspace(0, measured, BATCHES + 1).astype(np.int64)
    level = _mean_queues(result, order, starts)
    gains = growth(level)
    error_of_mean = gains.std(ddof=1) / np.sqrt(len(gains))
    total = float(level[-1] - level[0])
    late = float(level[-1] - level[BATCHES // 2 - 1 : BATCHES // 2 + 1].mean())
    delay_s = total * window.length_s / measured
    significant = total > 0 and gains.mean() > STUDENT_T * error_of_mean
    lasting = late >= LATE_SHARE * total
    return float(significant and lasting and delay_s > STEPS * _step_seen_s(result, window))


def _mean_queues(
    result: Result, order: npt.NDArray[np.intp], starts: npt.NDArray[np.int64]
) -> Floats:
    """Mean number of requests that wait for their first step, between each two of ``starts``.

    It is read just after each arrival, in ``order``.
    """
    accepted = np.asarray(result.requests["status"]) != REJECTED
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)
    begun_s = np.asarray(result.requests["first_scheduled_s"], dtype=np.float64)
    # Who gave up before has left the queue as well.
    begun_s = np.where(np.isnan(begun_s), result.requests["timed_out_s"], begun_s)
    begun_s = begun_s[~np.isnan(begun_s)]
    begun_s.sort()
    came = np.cumsum(accepted[order])[starts[0] : starts[-1]]
    begun = np.searchsorted(begun_s, arrival_s[order[starts[0] : starts[-1]]], side="right")
    waiting: Floats = np.add.reduceat(came - begun, starts[:-1] - starts[0]) / growth(starts)
    return waiting


def _left_s(result: Result) -> Floats:
    """When each request was answered or given up; NaN if neither."""
    return np.fmin(result.requests["finish_s"], result.requests["timed_out_s"])


def _step_seen_s(result: Result, window: Window) -> float:
    """Mean length of the steps in the window, weighted by time: what a moment in them sees."""
    squares = whole_s = 0.0
    for block in blocks(result):
        start_s, end_s = block.floats("start_s"), block.floats("end_s")
        inside = (end_s > window.start_s) & (start_s < window.stop_s)
        span_s = (end_s - start_s)[inside]
        squares += float((span_s**2 / block.floats("steps")[inside]).sum())
        whole_s += float(span_s.sum())
    return squares / whole_s if whole_s else 0.0


def _by_arrival(result: Result) -> npt.NDArray[np.intp]:
    """Rows of the requests that arrived, by arrival; ties keep the workload's order."""
    rows = np.flatnonzero(arrived(result))
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)[rows]
    in_order = bool((arrival_s[1:] >= arrival_s[:-1]).all())
    return rows if in_order else rows[np.argsort(arrival_s, kind="stable")]


def _arrival_order(result: Result) -> npt.NDArray[np.intp]:
    """The same; of sessions only while load comes as ever, see ``measured_window``."""
    order = _by_arrival(result)
    if "turn" not in result.requests or not len(order):
        return order
    return _until_sessions_run_out(result, order)


def _until_sessions_run_out(result: Result, order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Leave out who arrived when no session could begin any more; nobody, if that leaves a burst.

    Where sessions arrive by themselves that is after the last has begun. Each user begins one at
    the start, and another one after each that ends: of n sessions and u users, the end of the
    (n - u + 1)-th is the first after which none is left.
    """
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)[order]
    turn, session = (np.asarray(result.requests[name])[order] for name in ("turn", "session"))
    if result.users:
        rejected = np.asarray(result.requests["status"])[order] == REJECTED
        left_s = np.where(rejected, arrival_s, _left_s(result)[order])
        ends_s = np.full(int(result.requests["session"][-1]) + 1, -np.inf)
        np.maximum.at(ends_s, session, np.where(np.isnan(left_s), np.inf, left_s))
        ends_s[ends_s == -np.inf] = np.inf  # never begun
        last_s = float(np.sort(ends_s)[max(0, len(ends_s) - result.users)])
    else:
        last_s = float(arrival_s[turn == 0].max(initial=-np.inf))
    kept = order[arrival_s <= last_s]
    return order if arrival_s[0] == arrival_s[len(kept) - 1] else kept


def _end_of_service_s(result: Result) -> float:
    """Last finish (or timeout); the stop of the clock when requests were left or none finished."""
    left_s = _left_s(result)
    left = arrived(result) & (np.asarray(result.requests["status"]) == UNFINISHED)
    whole = not left.any() and not np.isnan(left_s).all()
    return float(np.nanmax(left_s)) if whole else result.end_s
