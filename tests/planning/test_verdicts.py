"""The measurement of wrong verdicts deals runs whose truth is known."""

import pytest

from benchmarks.verdicts import _mean, _scaled, queue, told
from experiments.planning.sequential import Verdict


def test_what_is_far_from_the_limit_is_told_right() -> None:
    runs = queue(60)
    assert _mean(runs[0]) == pytest.approx(0.0067, rel=0.01)
    doubled = _scaled(runs[0], 2.0)
    assert sum(one.measured for one in doubled) == 60 * 27_000
    kept, few = told(runs, 0.0005, 20)
    assert kept[Verdict.KEPT] == 1
    missed, _ = told(runs, 0.2, 20)
    assert missed[Verdict.KEPT] == 0
    assert missed[Verdict.MISSED] >= 0.9
    assert 2 <= few < 4
