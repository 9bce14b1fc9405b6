"""What may be bought: from which study, and what is out before anything is simulated."""

import re
from pathlib import Path

import pytest
from test_plan import SMALL, run, study

from experiments.planning.plan.candidates import built
from experiments.planning.plan.reading import read_plan
from experiments.study.document import read_raw


def test_a_serving_study_says_what_may_be_bought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(tmp_path)
    text = SMALL.replace("kind: plan\n", "").replace("candidates:", "sweep:")
    for key in ("also", "prices", "run_requests", "runners_up"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{key}:"))
    text = text.replace("cluster: {", "cluster: {gpu: t4, ") + "\n"
    path.write_text(text, encoding="utf-8")
    assert run(path, "--dry-run") == 0
    assert "small_plan: 6 candidates" in capsys.readouterr().out


def test_a_swept_list_says_what_may_be_bought_and_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(tmp_path)
    start, end = SMALL.index("candidates:"), SMALL.index("run_requests:")
    rows = (
        "sweep:\n- {engine.max_num_seqs: 4, workload.arrivals.rate_per_s: 9}\n"
        "- {engine.max_num_seqs: 16, cluster.replicas: 2}\n"
    )
    text = SMALL[:start] + rows + SMALL[end:].replace("run_requests: 2000\nrunners_up: 1\n", "")
    text = text.replace("kind: plan\n", "").replace("cluster: {", "cluster: {gpu: t4, ")
    path.write_text(text, encoding="utf-8")
    assert run(path, "--dry-run") == 0
    told = capsys.readouterr()
    assert "small_plan: 2 candidates" in told.out
    assert (
        "workload.arrivals.rate_per_s is swept there, which a plan does not: its traf" in told.err
    )
    assert "cluster.replicas is swept there, which a plan does not: it is solved for" in told.err


def test_models_are_candidates(tmp_path: Path) -> None:
    text = SMALL.replace("engine.max_num_seqs: [4, 16, 64]", "model: [opt-125m, opt-13b]")
    plan = read_plan(read_raw(study(tmp_path, text)))
    names = [one.name for one in built(plan)]
    assert names[:4] == ["opt-125m t4 TP1", "opt-13b t4 TP1", "opt-125m l40s TP1",
                         "opt-13b l40s TP1"]  # fmt: skip


@pytest.mark.parametrize(
    ("slo", "told"),
    [
        (
            "tpot_s: 0.0000001",
            r"a token takes [\d.]+ ms of a request that is alone, more than tpot",
        ),
        ("ttft_s: 0.0000001", r"the prefill of \d+ tokens, which 5.\d+% of the prompts have at l"),
        ("e2e_p50_s: 0.0001", r"\d+ tokens, which 5\d.?\d?% of the answers have at least, take 0"),
    ],
)
def test_what_no_number_of_replicas_helps(tmp_path: Path, slo: str, told: str) -> None:
    text = SMALL.replace("ttft_s: 0.1, tpot_s: 0.02", slo).replace("also:", "# also:")
    lost = [one.lost for one in built(read_plan(read_raw(study(tmp_path, text))))]
    assert len(lost) == 6
    assert all(re.match(told, each) for each in lost), lost[0]
