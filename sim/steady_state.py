"""What part of a run is measured, and whether the run had a steady state at all."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.result import REJECTED, UNFINISHED, Result

Floats = npt.NDArray[np.float64]

BATCHES = 10
"""Batches of arrivals over which the growth of the queue is tested."""

GROWTH = 0.05
"""Smallest growth of the number in system, per arrival, that is called saturation."""

STUDENT_T = 1.8331129326562374
"""0.95 quantile of Student's t with ``BATCHES - 1`` degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Window:
    """The measured part of a run."""

    measured: npt.NDArray[np.bool_]
    """One entry per request: arrived after the warm-up."""
    start_s: float
    """Arrival of the first measured request."""
    stop_s: float
    """Arrival of the last request; of a burst, the end of its service."""

    @property
    def length_s(self) -> float:
        """Seconds of the half-open window ``(start_s, stop_s]``."""
        return self.stop_s - self.start_s

    def holds(self, times_s: Floats) -> npt.NDArray[np.bool_]:
        """Which of ``times_s`` lie in the window; NaN does not."""
        return (times_s > self.start_s) & (times_s <= self.stop_s)


def measured_window(result: Result, warmup_fraction: float) -> Window:
    """Drop the warm-up and choose the stretch of time over which rates are counted.

    The first ``warmup_fraction`` of the requests, in order of arrival, are not measured. Rates
    count what happens from the first measured arrival to the last arrival, whoever caused it:
    neither the filling of an empty system nor its draining biases them. When the service of what
    is left at the last arrival takes longer than the arrivals did, the run is a burst and not a
    stream, and the window reaches to the end of the service. When all arrive at one instant there
    is no warm-up.

    Raises:
        ValueError: ``warmup_fraction`` is not in [0, 1), or nothing arrived.
    """
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction = {warmup_fraction}, expected at least 0 and below 1")
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)
    order = _arrival_order(result)
    if not len(order):
        raise ValueError("no request arrived, expected at least one to measure")
    last_s = float(arrival_s[order[-1]])
    together = arrival_s[order[0]] == last_s
    kept = order if together else order[int(warmup_fraction * len(order)) :]
    start_s = float(arrival_s[kept[0]])
    served_s = _end_of_service_s(result)
    stop_s = served_s if served_s - last_s > last_s - start_s else last_s
    measured = np.zeros(len(arrival_s), dtype=np.bool_)
    measured[kept] = True
    return Window(measured, start_s, stop_s)


def arrived(result: Result) -> npt.NDArray[np.bool_]:
    """Which requests of the workload arrived before the clock stopped."""
    before = np.asarray(result.requests["arrival_s"], dtype=np.float64) <= result.end_s
    ended = np.asarray(result.requests["status"]) != UNFINISHED
    either: npt.NDArray[np.bool_] = before | ended
    return either


def saturated(result: Result, window: Window) -> float:
    """1 if the number in system grew without bound, 0 if not, NaN if that cannot be told.

    The measured arrivals are cut into ``BATCHES`` equal batches. The number in system just before
    an arrival grows by some amount over each. Saturated means that the mean growth per arrival
    exceeds ``GROWTH``, over the whole window and over its second half (so that the filling of an
    empty system, which comes to rest, does not count), and exceeds 0 by a one-sided t test over
    the batches. Tested are the increments and not the level, because levels of a queue depend on
    their past, while increments of a critically loaded queue are nearly independent; there the
    false-alarm probability is below 5%, and less than that at lower load, where increments
    cancel. Fewer than two arrivals per batch, or all at one instant, cannot be told.
    """
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)
    order = _arrival_order(result)
    first = len(order) - int(window.measured.sum())
    if len(order) - first < 2 * BATCHES + 1 or arrival_s[order[0]] == arrival_s[order[-1]]:
        return float("nan")
    accepted = np.asarray(result.requests["status"]) != REJECTED
    left_s = np.asarray(result.requests["finish_s"], dtype=np.float64)[accepted]
    left_s = np.sort(left_s[~np.isnan(left_s)])
    edges = np.linspace(first, len(order) - 1, BATCHES + 1).astype(np.int64)
    entered = np.concatenate(([0], np.cumsum(accepted[order])))[edges]
    in_system = entered - np.searchsorted(left_s, arrival_s[order[edges]], side="right")
    growth = np.diff(in_system) / np.diff(edges)
    error = growth.std(ddof=1) / np.sqrt(BATCHES)
    late = growth[BATCHES // 2 :].mean()
    return float(min(growth.mean(), late) > GROWTH and growth.mean() > STUDENT_T * error)


def _arrival_order(result: Result) -> npt.NDArray[np.intp]:
    """Rows of the requests that arrived, by arrival; ties keep the workload's order."""
    rows = np.flatnonzero(arrived(result))
    arrival_s = np.asarray(result.requests["arrival_s"], dtype=np.float64)
    return rows[np.argsort(arrival_s[rows], kind="stable")]


def _end_of_service_s(result: Result) -> float:
    """Last finish; the stop of the clock when requests were left unfinished or none finished."""
    finish_s = np.asarray(result.requests["finish_s"], dtype=np.float64)
    left = arrived(result) & (np.asarray(result.requests["status"]) == UNFINISHED)
    whole = not left.any() and not np.isnan(finish_s).all()
    return float(np.nanmax(finish_s)) if whole else result.end_s
