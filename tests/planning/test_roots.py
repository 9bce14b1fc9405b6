"""The measurement of intervals of a highest rate: its pair is that of a search, its truth known."""

import numpy as np
import pytest

from benchmarks import roots
from experiments.planning.logit_line import Root


def test_the_pair_lies_around_the_load() -> None:
    for load in (0.7, 0.86, 0.93):
        low, high = roots.ends_of(load)
        assert low < load < high < 1
        assert (1 - low) / (1 - load) == pytest.approx((1 - load) / (1 - high))
    assert roots.ends_of(0.98)[1] == pytest.approx(0.99)  # half of the room is left


def test_intervals_near_the_capacity_hold_when_the_load_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roots, "LENGTH", 4000)
    missed = roots.missed_of(0.85, 60)
    assert missed.shape == (2, 60)
    assert missed[0].sum() < missed[1].sum()
    counts = np.full(60, 3600)
    assert missed.sum(axis=1)[0] / counts.sum() < 0.01 < missed.sum(axis=1)[1] / counts.sum()
    alone, asked = (roots.searched(missed, 0.85, by_load) for by_load in (False, True))
    assert isinstance(alone, Root)
    assert isinstance(asked, Root)
    assert asked.low < 0.85 < asked.high
    assert asked.seeds >= alone.seeds
