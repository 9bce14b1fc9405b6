"""What a plan tests its candidates with: steady traffic, or a day of windows."""

import math

from experiments.planning.day_probe import DAY_LOOKS, DayProbe, least_share
from experiments.planning.lengths import long_enough
from experiments.planning.plan.candidates import Candidate
from experiments.planning.plan.reading import PlanInput
from experiments.planning.plan.study import window_s_of
from experiments.planning.probes import Probe, SteadyProbe
from experiments.planning.promises import Promise, nearly_all_keep, promises_of
from experiments.planning.traffic import (
    Day,
    day_of,
    mean_rate_per_s,
    scaled,
    steady_version,
    stretch,
)
from experiments.study.document import Study
from experiments.study.errors import StudyError
from model.counts import count_of
from model.dataclass import dataclass

OF_A_TEST = 1.0
"""A run of a test is so many times as long as one of a search."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The tests of a plan, at so many times its traffic."""

    plan: PlanInput
    multiple: float

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the SLO asks for."""
        return promises_of(self.plan.study.slo)

    @property
    def confidence(self) -> float:
        """Of a verdict."""
        return self.plan.study.risk.confidence

    @property
    def has_windows(self) -> bool:
        """Whether traffic has a clock."""
        return self.plan.study.workload.has_clock

    def study(self, candidate: Candidate, replicas: int) -> Study:
        """Return a deployment under this traffic, as it is measured."""
        return self._measured(candidate.sized(replicas))

    def _measured(self, one: Study) -> Study:
        study = one.model_copy(update={"workload": scaled(one.workload, self.multiple)})
        if self.has_windows:
            return study
        return long_enough(study, round(OF_A_TEST * self.plan.study.run_requests))

    def probe(self, candidate: Candidate, replicas: int) -> Probe:
        """Return a fresh test of a candidate with so many replicas."""
        return self._test(candidate, self.study(candidate, replicas), candidate.told(replicas))

    def one_down(self, candidate: Candidate, replicas: int) -> dict[str, Probe]:
        """Return fresh tests with a replica away, of each pool in turn, by the pool's name.

        None where one is away without which nothing can be served.
        """
        told = candidate.told(replicas)
        return {
            name: self._test(
                candidate, self._measured(left), f"{told}, one of {name} down" if name else
                candidate.told(replicas - 1)
            )
            for name, left in candidate.one_fewer(replicas)
        }  # fmt: skip

    def _test(self, candidate: Candidate, study: Study, label: str) -> Probe:
        if not self.has_windows:
            return SteadyProbe(study, label, self.promises, self.confidence)
        day = self.day(candidate)
        return DayProbe(
            stretch(study, day), study, day, label, self.promises, self.plan.study.risk.share,
            self.confidence,
        )  # fmt: skip

    def day(self, candidate: Candidate) -> Day:
        """Return the windows of the traffic; they do not depend on the deployment."""
        return day_of(
            self.study(candidate, candidate.sizes.fewest), window_s_of(self.plan.study.slo)
        )

    def check_windows(self, candidate: Candidate) -> None:
        """Refuse traffic with a clock that has too few windows to tell how many of them miss.

        Raises:
            StudyError: no deployment, however large, could be shown to keep the risk.
        """
        share, windows = self.plan.study.risk.share, self.day(candidate).windows
        least, window_s = least_share(windows, self.confidence), window_s_of(self.plan.study.slo)
        if least < share:
            return
        enough = windows
        while least_share(enough, self.confidence) >= share:
            enough *= 2
        raise StudyError.of(
            f"risk.share = {share:g}: {count_of(windows, 'window')} of {window_s:g} s are too few "
            f"to tell, as {DAY_LOOKS[-1]} replays in which none misses still leave {least:.3g}, "
            f"whatever is bought; expected risk.share above {least:.3g}, slo.window_s of at most "
            f"{windows * window_s / enough:.3g} s, or more hours"
        )

    def least_rate_per_s(self, candidate: Candidate) -> float:
        """Return what any deployment that keeps the SLO must serve, at least.

        Of a day: the rate of the busiest windows that may not miss, less what may wait for a later
        one. Half of the requests of a window wait longer than the limits, if it brings more than
        this over the capacity.
        """
        if not self.has_windows:
            return mean_rate_per_s(self.study(candidate, candidate.sizes.fewest))
        day, slo = self.day(candidate), self.plan.study.slo
        found = [nearly_all_keep(slo, latency) for latency in ("ttft", "e2e")]
        longest = [each for each in found if each is not None]
        if not longest:
            return 1e-9  # nothing limits the wait
        rate = day.rate_exceeded_by(math.floor(self.plan.study.risk.share * day.windows))
        return rate / (1 + 2 * min(longest) / day.window_s)

    def steady_rate_per_s(self, candidate: Candidate) -> float:
        """Return the rate of the traffic, of a day that of its busiest windows."""
        if not self.has_windows:
            return mean_rate_per_s(self.study(candidate, candidate.sizes.fewest))
        day = self.day(candidate)
        return day.rate_exceeded_by(math.floor(self.plan.study.risk.share * day.windows))

    def steady(self, study: Study, rate_per_s: float) -> Study:
        """Return a deployment under steady traffic: its own, or a day's mix at a steady rate."""
        if not study.workload.has_clock:
            return study
        workload = steady_version(study.workload, rate_per_s, self.plan.study.run_requests)
        return study.model_copy(update={"workload": workload, "warmup_s": None})
