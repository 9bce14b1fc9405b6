"""The measurement of wrong verdicts deals runs whose truth is known."""

import pytest

from benchmarks.verdicts import _mean, _scaled, queue, told
from experiments.planning.sequential import Verdict
from experiments.reporting.support import Load


def test_what_is_far_from_the_limit_is_told_right() -> None:
    runs, load = queue(0.8, 0.0067, 60), Load(0.8, 1.0, 1.0, 1)
    assert _mean(runs[0]) == pytest.approx(0.0067, rel=0.01)
    doubled = _scaled(runs[0], 2.0)
    assert sum(one.measured for one in doubled) == 60 * 27_000
    few = told(runs, 0.0005, 20, load)
    assert few.verdicts[Verdict.KEPT] == 1
    assert 2 <= few.runs < 4
    assert "one replica too many 0.0%" in few.text(0.0005)
    many = told(queue(0.8, 0.2, 60), 0.2, 20, load)
    assert many.verdicts[Verdict.KEPT] == 0
    assert many.verdicts[Verdict.MISSED] >= 0.9
    assert "too few 0.0%" in many.text(0.2)


def test_near_the_capacity_neither_verdict_is_wrong_by_luck() -> None:
    """Most batches miss nothing there. Bounds are two standard errors above 5% and 2%."""
    load = Load(0.93, 1.0, 1.0, 1)
    limit = told(queue(0.93, 0.01, 250), 0.01, 150, load)
    assert limit.verdicts[Verdict.KEPT] <= 0.086
    assert limit.verdicts[Verdict.MISSED] <= 0.086
    assert told(queue(0.93, 0.013, 250), 0.013, 150, load).verdicts[Verdict.KEPT] <= 0.043
    assert told(queue(0.93, 0.008, 250), 0.008, 150, load).verdicts[Verdict.MISSED] <= 0.043
