"""Complaints about the file of a plan: one each, that says what was expected."""

from pathlib import Path

import pytest
from test_plan import SMALL, study

from experiments.planning.plan.candidates import built
from experiments.planning.plan.problem import Problem
from experiments.planning.plan.reading import read_plan
from experiments.study.document import read_raw
from experiments.study.errors import StudyError


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("candidates: {cluster.gpu: [t4, l40s]", "candidates: {gpu: [t4, l40s]",
         r"candidates.gpu: cannot be swept; did you mean cluster.gpu\? Expected a key of model"),
        ("candidates: {cluster.gpu: [t4, l40s], engine.max_num_seqs: [4, 16, 64]}\n", "",
         r"candidates: missing, expected what may be bought"),
        ("engine.max_num_seqs: [4", "engine.max_num_seq: [4", r"max_num_seq: unknown key"),
        ("engine.max_num_seqs: [4", "workload.limit: [4", r"expected a key of model, cluster"),
        ("engine.max_num_seqs: [4", "cluster.replicas: [4", r"is what a plan solves for"),
        ("cluster.gpu: [t4, l40s]", "cluster.gpu: [t4, l40t]",
         r"candidate 4 \(cluster.gpu=l40t, .*l40t.*is not in the catalogue"),
        ("runners_up: 1", "runner_up: 1", r"runner_up: unknown key; did you mean runners_up\?"),
        ("run_requests: 2000", "growth: -1", r"growth = -1: .*greater than 0"),
        ("run_requests: 2000", "contract: own", r"prices.l40s has on_demand, reserved, expected"),
        ("run_requests: 2000", "sweep: {engine.block_size: [16, 32]}", r"sweep: a plan has"),
        ("prices: {t4: 0.5", "prices: {t5: 0.5", r"prices.t5: gpu = 't5' is not in the catalogue"),
        ("prices: {t4: 0.5", "prices: {h200-sxm: 2.9, t4: 0.5",
         r"prices.h200-sxm: no candidate has this GPU, expected prices of t4, l40s"),
        ("prices: {t4: 0.5", "prices: {T4: 0.7, t4: 0.5", r"prices.t4: the same GPU as T4, exp"),
        ("prices: {t4: 0.5, ", "contract: reserved\nprices: {",
         r"contract = reserved: of t4 only the catalogue.s price on demand is known, expected pr"),
        ("l40s: {on_demand: 1.9,", "l40s: {ondemand: 1.9,",
         r"^\S+: prices.l40s.ondemand = 1.9: unknown key; did you mean on_demand\?"),
        ("run_requests: 2000", "sensitivity: {engine.max_num_seq: [2]}",
         r"sensitivity.engine.max_num_seq: unknown key; did you mean max_num_seqs\?"),
        ("run_requests: 2000", "sensitivity: {workload.arrivals.rate_per_s: [1, -1]}",
         r"sensitivity.workload.arrivals.rate_per_s = -1: .*greater than 0"),
        ("slo: {ttft_s: 0.1, tpot_s: 0.02, ", "slo: {", r"slo: a search needs a limit"),
        ("{process: poisson, rate_per_s: 600}", "{process: all_at_once}", r"a batch has no rate"),
    ],
)  # fmt: skip
def test_one_clear_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(StudyError, match=message):
        read_plan(read_raw(study(tmp_path, SMALL.replace(old, new))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cluster.gpu: [t4, l40s]", "cluster.gpuu: [t4, l40s]"),
        ("cluster: {router: least_requests}", "cluster: {gpuu: t4, router: least_requests}"),
    ],
)
def test_a_misspelt_key_is_told_once(tmp_path: Path, old: str, new: str) -> None:
    """And not a second time as the key that is missing because of it."""
    text = SMALL.replace("also: [{cluster.gpu: l40s, model: llama-3-70b}]\n", "")
    text = text.replace("cluster.gpu: [t4, l40s], ", "") if "{gpuu" in new else text
    with pytest.raises(StudyError) as told:
        read_plan(read_raw(study(tmp_path, text.replace(old, new))))
    (problem,) = told.value.problems
    assert "gpuu" in problem.text
    assert "did you mean gpu?" in problem.text


@pytest.mark.parametrize(("share", "tells"), [(0.01, False), (0.04, True)])
def test_too_few_windows_to_tell_are_refused(tmp_path: Path, share: float, tells: bool) -> None:
    """Ten replays of 24 windows in which none misses leave 2.9%, whatever is bought."""
    arrivals = "{process: piecewise, steps: [{duration_s: 120, rate_per_s: 100}]}"
    text = SMALL.replace("{process: poisson, rate_per_s: 600}", arrivals)
    text = text.replace("slo:", "  duration_s: 120\nslo:").replace("0.95}", "0.95, window_s: 5}")
    plan = read_plan(read_raw(study(tmp_path, f"{text}risk: {{share: {share}}}\n")))
    problem, candidate = Problem(plan, 1.0), built(plan)[0]
    if tells:
        problem.check_windows(candidate)
        return
    with pytest.raises(StudyError, match=r"risk.share = 0.01: 24 windows of 5 s are too few"):
        problem.check_windows(candidate)
