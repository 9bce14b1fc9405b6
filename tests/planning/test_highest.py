"""The search for a highest value, on systems whose missed share is a known function of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from experiments.planning.capacity.highest import Search
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.trials import Trial
from experiments.study.document import Study

JOINT = Promise("", 0.01, ("ttft_s",))
REQUESTS = 9000


@dataclass(frozen=True)
class Known:
    """A key whose value is the study itself."""

    point: Any
    key: str = "rate"
    value: float = 5.0
    is_whole: bool = False
    draw: int | None = None

    def at(self, value: float) -> Study:
        return cast(Study, value)


class Zero:
    seed = 0


def asking(share: Callable[[float], float]) -> Callable[[Sequence[Trial]], list[Sample]]:
    """Requests that miss independently, with a share that depends on the value alone."""

    def one(trial: Trial) -> Sample:
        value = cast(float, trial.study)
        rng = np.random.default_rng((trial.seed, 7))
        mask = rng.random(REQUESTS) < share(value)
        return Sample(np.arange(float(REQUESTS)), {"": mask}, {"ttft_s": mask})

    return lambda trials: [one(trial) for trial in trials]


@pytest.mark.parametrize("at", [8.03, 8.31, 8.5])
@pytest.mark.parametrize("growth", [30.0, 300.0, 3000.0])
def test_a_limit_is_found_however_steep_the_misses_grow(at: float, growth: float) -> None:
    """Log odds that reach those of 1% at the answer, and grow so much per logarithm of the value.

    The pair that is searched begins 4% too high.
    """

    def share(value: float) -> float:
        odds = math.log(0.01 / 0.99) + growth * math.log(value / at)
        return 1 / (1 + math.exp(-max(min(odds, 500.0), -500.0)))

    search = Search(Known(Zero()), asking(share), (JOINT,), 0.02, capacity=20.0)
    found = search.around(at * 1.04)
    assert found.outcome == "found"
    assert found.value == pytest.approx(at, rel=0.012 if growth == 30 else 0.005)
    assert found.high / found.low < 1.05
