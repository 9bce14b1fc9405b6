"""The test of nine looks: how often it is wrong, and what it says of nothing."""

from functools import partial

import numpy as np
import pytest
from test_windows import study

from experiments.planning.probes import SteadyProbe
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.sequential import LOOKS, Verdict, decide, is_over
from experiments.reporting.support import Load

ALLOWED = 0.01


Runs = list[list[tuple[int, int]]]


def runs(rng: np.random.Generator, share: float, shape: float = 1.0) -> Runs:
    """Batches of 5,000 whose shares vary as those of a queue do: gamma, with a skewness of 2."""

    def _drawn(rng: np.random.Generator, count: int) -> Runs:
        shares = rng.gamma(shape, share / shape, size=(count, 5))
        return [[(int(rng.binomial(5000, min(one, 1.0))), 5000) for one in row] for row in shares]

    (late,) = rng.spawn(1)  # what the last look adds leaves the runs before it as they are
    return [*_drawn(rng, LOOKS[-2]), *_drawn(late, LOOKS[-1] - LOOKS[-2])]


def wrong(share: float, verdict: Verdict, seed: int, shape: float = 1.0) -> float:
    rng = np.random.default_rng(seed)
    return sum(decide(runs(rng, share, shape), ALLOWED, 0.95) is verdict for _ in range(300)) / 300


def test_what_is_kept_is_not_called_missed_and_the_other_way_round() -> None:
    """At the limit itself 5% in all would be called either; half and twice as much hardly ever."""
    assert wrong(0.005, Verdict.MISSED, 1) <= 0.01
    assert wrong(0.02, Verdict.KEPT, 2) <= 0.01
    assert wrong(0.01, Verdict.KEPT, 3) <= 0.05
    assert wrong(0.01, Verdict.MISSED, 4) <= 0.05


def test_rare_long_busy_periods_do_not_make_a_verdict_wrong_more_often() -> None:
    """Batches with a cv of 2 and a skewness of 4, in which many miss nothing, and a few much.

    Student's t for the mean calls a fifth of them kept at the limit itself. The bound is two
    standard errors above the 5% that may be wrong.
    """
    assert wrong(0.01, Verdict.KEPT, 8, shape=0.25) <= 0.075
    assert wrong(0.01, Verdict.MISSED, 9, shape=0.25) <= 0.075
    assert wrong(0.013, Verdict.KEPT, 10, shape=0.25) <= 0.02


def test_far_from_the_limit_it_decides() -> None:
    assert wrong(0.002, Verdict.KEPT, 5) == 1
    assert wrong(0.05, Verdict.MISSED, 6) >= 0.99


def test_it_ends_when_it_hardly_can_be_kept() -> None:
    """Runs next to the limit are not all spent, and hardly a verdict of kept is lost."""

    def ended(share: float, seed: int) -> tuple[Verdict, int]:
        each = runs(np.random.default_rng(seed), share)
        for look in LOOKS:
            if is_over(each[:look], ALLOWED, 0.95):
                return decide(each[:look], ALLOWED, 0.95), look
        raise AssertionError("the last look ends it")

    near = [ended(0.011, seed) for seed in range(200)]
    assert sum(look for _, look in near) / 200 < LOOKS[-1] / 3
    for share in (0.006, 0.008):
        early = sum(ended(share, seed)[0] is Verdict.KEPT for seed in range(200))
        spent = sum(
            decide(runs(np.random.default_rng(seed), share), ALLOWED, 0.95) is Verdict.KEPT
            for seed in range(200)
        )
        assert spent - 6 <= early <= spent


def test_a_hopeless_first_run_decides_at_once() -> None:
    hopeless = [[(300, 5000)] * 5]
    assert decide(hopeless, ALLOWED, 0.95) is Verdict.MISSED
    assert is_over(hopeless, ALLOWED, 0.95)
    assert decide([[(100, 5000)] * 5], ALLOWED, 0.95) is Verdict.UNDECIDED


@pytest.mark.parametrize(("missed", "is_over"), [(347, False), (1200, True)])
def test_a_short_run_decides_only_what_is_plain(missed: int, is_over: bool) -> None:
    """5% of 6,750 requests are one busy period of a queue whose misses are 0.7% in the long run."""
    probe = SteadyProbe(study(), "", (Promise("", ALLOWED, ("ttft_s",)),), 0.95)
    mask = np.arange(6750) < missed
    probe.add([Sample(np.arange(6750.0), {"": mask}, {"ttft_s": mask})])
    assert probe.is_over is is_over
    assert probe.verdict is (Verdict.MISSED if is_over else Verdict.UNDECIDED)


SPREAD, BURST = (0.1, 0.4, 0.8, 1.4, 2.3), (0.0, 0.0, 0.0, 0.0, 5.0)


@pytest.mark.parametrize(
    ("percent", "batches", "few", "every"),
    [
        (0.2, SPREAD, "goes on", "goes on"),
        (1.5, SPREAD, "undecided", "goes on"),
        (10, SPREAD, "missed", "missed"),
        (5, BURST, "undecided", "goes on"),
        (19, BURST, "missed", "missed"),
    ],
)
def test_a_short_run_ends_a_test_that_only_prices_a_runner_up(
    percent: float, batches: tuple[float, ...], few: str, every: str
) -> None:
    """What was given up is taken up again once it may be the answer after all."""
    probe = SteadyProbe(study(), "", (Promise("", ALLOWED, ("ttft_s",)),), 0.95)
    probe.most = probe.few
    mask = np.arange(5000) % 1000 < 10 * percent * np.repeat(batches, 1000)
    probe.add([Sample(np.arange(5000.0), {"": mask}, {"ttft_s": mask})])
    assert _told(probe) == few
    probe.most = probe.every
    assert _told(probe) == every


def test_where_a_queue_grows_without_end_a_short_run_says_so() -> None:
    """Half of the requests in all, none at first: too different for Student's t, but 2% more come
    than is served. Below the capacity it may have been one long busy period: nothing is said, but
    that more runs hardly would keep it."""
    ten = Promise("", 0.1, ("ttft_s",))
    mask = np.repeat((0.0, 0.0, 1.0, 1.0, 1.0), 1000) > 0
    mask[2000:2600] = False
    for load, verdict in ((1.02, Verdict.MISSED), (0.96, Verdict.UNDECIDED)):
        told = Load(load, 1.0, 1.0, 1)
        probe = SteadyProbe(study(), "", (ten,), 0.95, load_of=partial(_known, told))
        probe.most = probe.few
        probe.add([Sample(np.arange(5000.0), {"": mask}, {"ttft_s": mask})])
        assert probe.is_over
        assert probe.verdict is verdict
        assert probe.gave_up is (verdict is Verdict.UNDECIDED)


def test_what_all_requests_miss_needs_no_load_to_be_told() -> None:
    asked: list[object] = []
    every, none = np.ones(5000, dtype=bool), np.zeros(5000, dtype=bool)
    for allowed, mask, verdict in (
        (0.1, every, Verdict.MISSED),
        (0.5, every, Verdict.MISSED),
        (0.1, none, Verdict.UNDECIDED),
    ):
        promise = Promise("", allowed, ("ttft_s",))
        probe = SteadyProbe(study(), "", (promise,), 0.95, load_of=asked.append)
        probe.add([Sample(np.arange(5000.0), {"": mask}, {"ttft_s": mask})])
        assert probe.verdict is verdict
    assert len(asked) == 2


def _known(load: Load, _: object) -> Load:
    return load


def _told(probe: SteadyProbe) -> str:
    return probe.verdict.value if probe.is_over else "goes on"


def test_a_queue_that_grows_all_the_time_is_missed() -> None:
    """Batches from 0 to 6%: too different for Student's t, but 3% in all, in both runs."""
    growing = [(0, 5000), (50, 5000), (150, 5000), (250, 5000), (300, 5000)]
    slower = [(0, 5000), (0, 5000), (60, 5000), (90, 5000), (200, 5000)]
    assert decide([growing, slower], ALLOWED, 0.95) is Verdict.MISSED
    assert decide([slower, slower], ALLOWED, 0.95) is Verdict.UNDECIDED
    assert decide([growing, [(0, 5000)] * 5], ALLOWED, 0.95) is Verdict.UNDECIDED
    plain = [(225, 5000)] * 5  # more than twice what may be missed of both runs, but not of each
    assert decide([plain, [(0, 5000)] * 5], ALLOWED, 0.95) is Verdict.UNDECIDED
    assert decide([[(95, 5000)] * 4 + [(90, 5000)]] * 2, 0.04, 0.95) is Verdict.KEPT


def test_never_missed_is_kept_once_misses_would_have_shown() -> None:
    assert decide([[(0, 5000)] * 5] * 2, ALLOWED, 0.95) is Verdict.KEPT
    assert decide([[(0, 100)] * 5] * 2, ALLOWED, 0.95) is Verdict.UNDECIDED


def test_a_look_that_decided_is_not_taken_back() -> None:
    """Runs after a decision change nothing: whoever simulates ahead gets the same answer."""
    kept = [[(0, 5000)] * 5] * 2
    assert decide([*kept, *([[(400, 5000)] * 5] * 8)], ALLOWED, 0.95) is Verdict.KEPT


def test_it_ends() -> None:
    at_limit = [[(40, 5000), (60, 5000), (50, 5000), (45, 5000), (55, 5000)]] * LOOKS[-1]
    assert decide(at_limit, ALLOWED, 0.95) is Verdict.UNDECIDED
    assert is_over(at_limit, ALLOWED, 0.95)
