"""The traffic of a plan: more or less of it, its busiest stretch, and the same at a steady rate."""

import numpy as np
import numpy.typing as npt

from experiments.planning.promises import longest_stay_s
from experiments.study.document import Study
from experiments.study.requests import requests_of
from model.dataclass import dataclass
from workloads.arrivals import (
    AllAtOnce,
    Arrivals,
    ClosedLoop,
    Diurnal,
    Markov,
    OnOff,
    Piecewise,
    Poisson,
    Step,
)
from workloads.lengths import Lengths
from workloads.resampling import Resample
from workloads.workload import Workload

Ints = npt.NDArray[np.int64]


def scaled(workload: Workload, factor: float) -> Workload:
    """Return so many times as much traffic: rates, or users; of a trace, requests of each window.

    A trace must be resampled.

    Raises:
        ValueError: everything arrives at once, so there is no rate.
    """
    if workload.trace is not None:
        assert workload.resample is not None  # plans see to it
        again = workload.resample
        scale = again.scale * factor
        return workload.model_copy(update={"resample": again.model_copy(update={"scale": scale})})
    assert workload.arrivals is not None
    return workload.model_copy(update={"arrivals": _scaled(workload.arrivals, factor)})


def _scaled(arrivals: Arrivals, factor: float) -> Arrivals:
    match arrivals:
        case ClosedLoop():
            changes: dict[str, object] = {"users": max(1, round(arrivals.users * factor))}
        case OnOff():
            changes = {
                "rate_on_per_s": arrivals.rate_on_per_s * factor,
                "rate_off_per_s": arrivals.rate_off_per_s * factor,
            }
        case Markov():
            changes = {"rates_per_s": tuple(rate * factor for rate in arrivals.rates_per_s)}
        case Piecewise():
            steps = tuple(
                Step(duration_s=step.duration_s, rate_per_s=step.rate_per_s * factor)
                for step in arrivals.steps
            )
            changes = {"steps": steps}
        case Diurnal():
            changes = {"mean_rate_per_s": arrivals.mean_rate_per_s * factor}
        case AllAtOnce():
            raise ValueError("process = all_at_once has no rate that could grow")
        case _:
            changes = {"rate_per_s": arrivals.rate_per_s * factor}
    return arrivals.model_copy(update=changes)


def resampling(workload: Workload, window_s: float) -> Workload:
    """Return a workload that differs from seed to seed: a trace is resampled, others do already."""
    if workload.trace is None or workload.resample is not None:
        return workload
    return workload.model_copy(update={"resample": Resample(window_s=window_s)})


def steady_version(workload: Workload, rate_per_s: float, requests: int) -> Workload:
    """Return Poisson arrivals at a rate, with the same lengths in the same mix."""
    lengths = workload.lengths
    if workload.trace is not None:
        lengths = Lengths(trace=workload.trace)
    return Workload(
        arrivals=Poisson(rate_per_s=rate_per_s),
        lengths=lengths,
        num_requests=requests,
        prefixes=workload.prefixes,
        priorities=workload.priorities,
    )


@dataclass(frozen=True, slots=True)
class Day:
    """The windows of a workload with a clock."""

    window_s: float
    counts: Ints
    """Requests that arrive in each, of one seed."""
    lead: int
    """Windows before a stretch that are simulated and not measured."""
    first: int
    beyond: int
    """The busiest stretch, in windows."""

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self.counts)

    def rate_exceeded_by(self, windows: int) -> float:
        """Return the rate per second that so many windows exceed at most."""
        ordered = np.sort(self.counts)[::-1]
        return float(ordered[min(windows, len(ordered) - 1)]) / self.window_s


STRETCH_S = 3600.0
LEAD = 2


def day_of(study: Study, window_s: float) -> Day:
    """Cut the time of a study into windows, and find the busiest hour."""
    requests = requests_of(study, study.seed)
    horizon_s = study.workload.duration_s or float(requests.arrival_s[-1])
    windows = max(1, round(horizon_s / window_s))
    number = np.minimum((requests.arrival_s / window_s).astype(np.int64), windows - 1)
    counts = np.bincount(number, minlength=windows)
    length = min(windows, max(2, round(STRETCH_S / window_s)))
    sums = np.convolve(counts, np.ones(length, dtype=np.int64), mode="valid")
    first = int(sums.argmax())
    return Day(window_s, counts, min(LEAD, first), first, first + length)


def stretch(study: Study, day: Day) -> Study:
    """Return a study of the busiest stretch alone, with a lead-in that is not measured."""
    begin_s = (day.first - day.lead) * day.window_s
    end_s = day.beyond * day.window_s
    workload = study.workload
    if workload.trace is not None:
        offset_s = workload.start_s or 0.0
        changes: dict[str, object] = {
            "start_s": offset_s + begin_s * workload.rate_scale,
            "stop_s": offset_s + end_s * workload.rate_scale,
        }
    else:
        changes = {
            "arrivals": _from(workload.arrivals, begin_s),
            "duration_s": end_s - begin_s,
            "num_requests": None,
        }
    return study.model_copy(
        update={
            "workload": workload.model_copy(update=changes),
            "warmup_s": day.lead * day.window_s,
            "warmup_fraction": None,
        }
    )


def _from(arrivals: Arrivals | None, begin_s: float) -> Arrivals:
    """Arrivals of a clock, from a later moment on."""
    if isinstance(arrivals, Diurnal):
        hour = (arrivals.start_hour + 24 * begin_s / arrivals.period_s) % 24
        return arrivals.model_copy(update={"start_hour": hour})
    assert isinstance(arrivals, Piecewise)
    lap_s = sum(step.duration_s for step in arrivals.steps)
    if arrivals.repeat:
        begin_s %= lap_s
    steps, passed_s = [], 0.0
    for step in arrivals.steps:
        left_s = min(step.duration_s, passed_s + step.duration_s - begin_s)
        passed_s += step.duration_s
        if left_s > 0:
            steps.append(Step(duration_s=left_s, rate_per_s=step.rate_per_s))
    if arrivals.repeat:
        done_s = lap_s - sum(step.duration_s for step in steps)
        for step in arrivals.steps:
            kept_s = min(step.duration_s, done_s)
            done_s -= kept_s
            if kept_s > 0:
                steps.append(Step(duration_s=kept_s, rate_per_s=step.rate_per_s))
    if not steps:
        steps = [arrivals.steps[-1]]
    return Piecewise(steps=tuple(steps), repeat=arrivals.repeat)


def mean_rate_per_s(study: Study) -> float:
    """Return the requests per second of a study's workload; of a closed loop the most it can ask.

    A user who waits as long as the limits allow asks least, so this is what a deployment that keeps
    them has to serve at least.
    """
    workload, slo = study.workload, study.slo
    requests = requests_of(study, study.seed)
    if isinstance(workload.arrivals, ClosedLoop):
        stay_s = 0.0
        if slo is not None:
            stay_s = longest_stay_s(slo, float(requests.output_tokens.mean()))
        think_s = workload.arrivals.think_s
        if workload.sessions is not None and requests.think_s is not None:
            think_s = float(requests.think_s.mean())  # of further turns, and of tools, as well
        return workload.arrivals.users / (think_s + stay_s)
    rate = getattr(workload.arrivals, "rate_per_s", None)
    if rate is not None:
        return float(rate)
    span_s = workload.duration_s or float(requests.arrival_s[-1])
    return len(requests) / span_s
