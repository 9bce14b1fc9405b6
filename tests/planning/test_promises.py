"""Limits of percentiles in a search: each a promise of its own, beside those of single requests."""

from pathlib import Path

import numpy as np
import pytest

from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.running import answer
from experiments.planning.capacity.study import prepare_capacity
from experiments.planning.day_probe import WindowRun
from experiments.planning.probes import together
from experiments.planning.progress import SearchProgress
from experiments.planning.promises import (
    Promise,
    limits_of,
    longest_stay_s,
    nearly_all_keep,
    promises_of,
)
from experiments.planning.samples import Sample, binding, worst
from experiments.planning.sequential import Verdict
from experiments.planning.trials import Trials
from experiments.running.local import Local
from experiments.study.document import read_raw
from sim.measuring.slo import Slo

KEPT, MISSED, OPEN = Verdict.KEPT, Verdict.MISSED, Verdict.UNDECIDED
STUDY = """\
kind: capacity
name: small
model: opt-125m
cluster: {{gpu: t4}}
engine: {{dtype: float16, max_num_seqs: 16}}
workload:
  arrivals: {{process: poisson, rate_per_s: 1}}
  lengths:
    prompt: {{distribution: uniform, min: 10, max: 60}}
    output: {{distribution: uniform, min: 2, max: 30}}
slo: {slo}
half_width: 0.1
run_requests: 2000
"""


def found(folder: Path, slo: str) -> Highest:
    path = folder / "small.yaml"
    path.write_text(STUDY.format(slo=slo), encoding="utf-8")
    plan = prepare_capacity(read_raw(path))
    one = answer(plan, plan.points[0], Trials(folder, Local(1), SearchProgress())).found
    assert isinstance(one, Highest)
    return one


def test_a_limit_of_a_percentile_is_one_of_requests_with_that_share(tmp_path: Path) -> None:
    single = found(tmp_path, "{ttft_s: 0.1, attainment: 0.95}")
    percentile = found(tmp_path, "{ttft_p95_s: 0.1}")
    assert (percentile.value, percentile.low, percentile.high) == (
        single.value, single.low, single.high
    )  # fmt: skip
    assert (single.binds, percentile.binds) == ("ttft_s", "ttft_p95_s")


def test_of_several_promises_the_one_that_is_missed_first_binds(tmp_path: Path) -> None:
    """Each alone, then both: what the pair takes is what the harder of them takes."""
    hard = found(tmp_path, "{ttft_p95_s: 0.1}")
    easy = found(tmp_path, "{e2e_p50_s: 0.45}")
    assert hard.value < 0.98 * easy.value
    both = found(tmp_path, "{ttft_p95_s: 0.1, e2e_p50_s: 0.45}")
    assert both.binds == "ttft_p95_s"
    assert both.value == pytest.approx(hard.value, rel=1e-12)


def test_limits_of_single_requests_are_kept_together_those_of_percentiles_alone() -> None:
    slo = Slo(ttft_s=1.0, tpot_s=0.05, attainment=0.9, ttft_p50_s=0.2)
    joint, median = promises_of(slo)
    assert joint.limits == ("ttft_s", "tpot_s")
    assert joint.allowed == pytest.approx(0.1)
    assert median == Promise("ttft_p50_s", 0.5, ("ttft_p50_s",))
    masks = {"ttft_s": [1, 0, 0, 0], "tpot_s": [0, 1, 0, 0], "ttft_p50_s": [1, 1, 1, 0]}
    by_limit = {name: np.array(mask, dtype=np.bool_) for name, mask in masks.items()}
    missed = {"": by_limit["ttft_s"] | by_limit["tpot_s"], "ttft_p50_s": by_limit["ttft_p50_s"]}
    sample = Sample(np.arange(4.0), missed, by_limit)
    assert (sample.count(joint), sample.count(median)) == (2, 3)
    assert worst([sample], (joint, median)) is joint  # 50% of 10% is further off than 75% of 50%
    assert binding([sample], (joint, median)) == ("ttft_s", 0.5)
    counted, measured = sample.windows(2.0, 2)
    run = WindowRun(0, counted, measured)
    assert run.lost((joint,)).tolist() == [1, 0]
    assert run.lost((median,)).tolist() == [1, 0]
    assert run.lost((Promise("ttft_p50_s", 0.4, ("ttft_p50_s",)),)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ((KEPT, KEPT), KEPT),
        ((KEPT, OPEN), OPEN),
        ((OPEN, MISSED), MISSED),
        ((KEPT, MISSED), MISSED),
    ],
)
def test_an_slo_is_kept_when_all_its_promises_are(
    parts: tuple[Verdict, ...], whole: Verdict
) -> None:
    assert together(parts) is whole


def test_only_limits_that_nearly_all_keep_bound_the_load() -> None:
    slo = Slo(ttft_p50_s=0.1, ttft_p99_s=2.0, tpot_p95_s=0.05)
    assert nearly_all_keep(slo, "ttft") == 2.0
    assert longest_stay_s(slo, 100) == pytest.approx(7.0)
    assert nearly_all_keep(Slo(ttft_p50_s=0.1), "ttft") is None
    assert longest_stay_s(Slo(tpot_s=0.05), 100) == float("inf")
    assert longest_stay_s(Slo(tpot_s=0.05), 100, first_s=0.0) == pytest.approx(5.0)
    assert set(limits_of(slo)) == {"ttft_p50_s", "ttft_p99_s", "tpot_p95_s"}
