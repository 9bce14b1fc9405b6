"""Ratios of pools that a plan tries by itself."""

from math import gcd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_plan import PRICES, SMALL, study

from experiments.planning.bounds import rates_of
from experiments.planning.plan.candidates import built
from experiments.planning.plan.fates import fate, why
from experiments.planning.plan.finding import Finder
from experiments.planning.plan.ratios import every_ratio
from experiments.planning.plan.reading import read_plan
from experiments.planning.plan.serving_files import winner_study
from experiments.planning.plan.tables import candidates_table
from experiments.planning.progress import SearchProgress
from experiments.planning.sequential import Verdict
from experiments.planning.trials import Trials
from experiments.running import capacity
from experiments.running.local import Local
from experiments.running.workers import shared_by
from experiments.study.document import read_raw
from experiments.study.errors import StudyError

CANDIDATES = "candidates: {cluster.gpu: [t4, l40s], engine.max_num_seqs: [4, 16, 64]}\n"
ROLES = """\
candidates:
  cluster.pools:
  - [{name: all, gpu: h100-sxm}]
  - [{name: prompts, gpu: h100-sxm, role: prefill}, {name: answers, gpu: h100-sxm, role: decode}]
"""
MIXED = """\
cluster: {pools: [{name: fast, gpu: l40s}, {name: slow, gpu: t4}]}
candidates: {engine.max_num_seqs: [4, 64]}
"""


def text(candidates: str = ROLES, ratios: str = "ratios: 2\n") -> str:
    found = SMALL.replace("also: [{cluster.gpu: l40s, model: llama-3-70b}]\n", ratios)
    found = found.replace(CANDIDATES, candidates).replace("rate_per_s: 600", "rate_per_s: 150")
    if candidates.startswith("cluster:"):
        found = found.replace("cluster: {router: least_requests}\n", "")
    if "h100-sxm" in candidates:
        found = found.replace(PRICES, "prices: {h100-sxm: 4}")
        found = found.replace("{dtype: float16}", "{dtype: float16, max_num_seqs: 16}")
    return found.replace("2000", "500")


def ratios(folder: Path, written: str) -> list[tuple[int, ...]]:
    read = read_plan(read_raw(study(folder, written)))
    return [tuple(pool.replicas for pool in one.cluster.all_pools) for one in read.studies]


def test_every_ratio_once_in_lowest_terms() -> None:
    assert list(every_ratio(3, 2)) == [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)]
    found = list(every_ratio(4, 3))
    assert len({tuple(part / sum(one) for part in one) for one in found}) == len(found)
    assert all(gcd(*one) == 1 for one in found)
    shares = {tuple(part / (i + j + k) for part in (i, j, k))
              for i in range(1, 5) for j in range(1, 5) for k in range(1, 5)}  # fmt: skip
    assert len(found) == len(shares)


def test_candidates_of_several_pools_are_tried_in_each(tmp_path: Path) -> None:
    assert ratios(tmp_path, text()) == [(1,), (1, 1), (1, 2), (2, 1)]
    listed = text(ratios="ratios: [[2, 5], [2, 5], [1, 1]]\n")
    assert ratios(tmp_path, listed) == [(1,), (2, 5), (1, 1)]
    assert ratios(tmp_path, text(MIXED)) == [(1, 1), (1, 2), (2, 1)] * 2


def test_ratios_are_names_and_columns(tmp_path: Path) -> None:
    found = built(read_plan(read_raw(study(tmp_path, text(MIXED)))))
    assert found[1].name == "l40s TP1 fast + t4 TP1 slow 1:2, max_num_seqs 4"
    assert found[1].values["cluster.pools[1].replicas"] == 2
    found = built(read_plan(read_raw(study(tmp_path, text()))))
    assert found[3].values["cluster.pools"].startswith("2 x h100-sxm prompts")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (text(ratios="ratios: [[1, 2, 3]]\n"), r"\[1, 2, 3\] has 3 numbers, expected one for each"),
        (text(ROLES.replace("decode}", "decode, replicas: 2}")), "pool answers .* of its own"),
        (text(CANDIDATES), "no candidate has several pools"),
        (text(ratios="ratios: 1\n"), "ratios"),
        (text(ratios="ratios: [[0, 1]]\n"), "ratios"),
    ],
)
def test_ratios_that_say_nothing_are_refused(tmp_path: Path, written: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_plan(read_raw(study(tmp_path, written)))


def test_only_who_computes_prompts_bounds_them(tmp_path: Path) -> None:
    """Replicas that answer compute none: without enough of the others, any number is too few."""
    pools = built(read_plan(read_raw(study(tmp_path, text()))))[1]
    answers, prompts = rates_of(pools.study)
    assert answers[0] == prompts[1] == 0
    assert min(answers[1], prompts[0]) > 0


def test_a_plan_finds_the_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of counts that would cost less than the answer was bounded, or missed."""
    monkeypatch.setattr(capacity, "REQUESTS", 1_000)  # bounds need no third digit
    candidates = ROLES.replace("  - [{name: all, gpu: h100-sxm}]\n", "")
    plan = read_plan(read_raw(study(tmp_path, text(candidates, "ratios: 3\n"))))
    trials = Trials(tmp_path, Local(1), SearchProgress())
    found = Finder(plan, trials, shared_by(1), SearchProgress(), look_around=False).run()
    (answer,) = found.finalists
    assert answer.probe.verdict.value == "kept"
    priced = candidates_table(found)["usd_per_hour"]
    assert len(priced) == 7
    assert priced.min() == pytest.approx(answer.usd_per_hour)
    parts = [pool.replicas for pool in winner_study("small", answer).cluster.all_pools]
    assert sum(parts) == answer.replicas

    # Another ratio may be the same hardware: then it is no other candidate, whatever its runs tell.
    same = next(
        (one, size)
        for one in found.candidates
        if one.number != answer.candidate.number
        for size in range(2, 9)
        if one.sized(size) == answer.candidate.sized(answer.replicas)
    )
    state: Any = found.states[same[0].number]
    state.replicas, state.fate = None, "undecided"
    unclear = SimpleNamespace(verdict=Verdict.UNDECIDED, gave_up=False)
    state.probes = {same[1]: unclear}
    assert fate(found, same[0]) == "same price"
    assert why(found, same[0]) == f"with {answer.replicas} replicas it is the answer itself"
    state.probes = {same[1] + 1: unclear}
    assert fate(found, same[0]) == "undecided"
    state.probes = {same[1] + 1: SimpleNamespace(verdict=Verdict.UNDECIDED, gave_up=True)}
    assert fate(found, same[0]) == "unlikely"
