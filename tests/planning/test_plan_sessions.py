"""Plans and capacities of users who have conversations."""

import math
from pathlib import Path

import pandas as pd
import pytest
from test_plan import SMALL, loaded, rows, run, study

from experiments.cli.run import main as run_main
from experiments.planning.bounds import rates_of
from experiments.planning.lengths import long_enough
from experiments.planning.plan.candidates import built
from experiments.planning.plan.holding import Traffic, held_by
from experiments.planning.plan.problem import Problem
from experiments.planning.plan.reading import read_plan
from experiments.planning.plan.sensitivity import assumptions
from experiments.planning.promises import promises_of
from experiments.study.document import read_raw
from experiments.study.errors import StudyError

POISSON = "  arrivals: {process: poisson, rate_per_s: 600}\n"
USERS = """\
  arrivals: {process: closed_loop, users: 20, think_s: 0.3, think_law: exponential}
  sessions: {turns: {distribution: constant, value: 4}, think_s: 0.1, system_tokens: 40}
"""
TEXT = SMALL.replace(POISSON, USERS).replace("attainment: 0.95", "attainment: 0.9")
TEXT = TEXT.replace("also: [{cluster.gpu: l40s, model: llama-3-70b}]\n", "")
TEXT = TEXT.replace("engine.max_num_seqs: [4, 16, 64]", "engine.max_num_seqs: [2, 3]")


def test_a_plan_of_conversations(tmp_path: Path) -> None:
    """The answer, run alone, gives the plan's figures; users are counted whole."""
    out, alone = tmp_path / "out", tmp_path / "winner"
    assert run(study(tmp_path, TEXT), "--out", out) == 0
    answer = rows(out / "plan.csv")[0]
    assert answer["verdict"] == "kept"
    winner = loaded(out / "winner.yaml")
    assert winner["workload"]["sessions"]["turns"]["value"] == 4
    words = [str(out / "winner.yaml"), "--out", str(alone), "--no-figures", "--jobs", "1"]
    assert run_main(words) == 0
    runs = rows(alone / "runs.csv")
    counts = pd.read_parquet(alone / "requests.parquet").groupby("seed")["measured"].sum()
    kept = sum(float(row["slo_attainment"]) * counts[int(row["seed"])] for row in runs)
    kept /= counts.sum()
    assert 1 - kept == pytest.approx(float(answer["missed_share"]), abs=1e-12)
    names = {row["change"] for row in rows(out / "sensitivity.csv")}
    assert "prompts +10%" in names
    assert not any(name.startswith("turns") for name in names), "a tenth of four turns is none"


def test_runs_are_as_long_as_two_sessions_of_every_user_take(tmp_path: Path) -> None:
    one = read_plan(read_raw(study(tmp_path, TEXT))).studies[0]
    long = long_enough(one, 500)
    assert long.workload.num_requests == pytest.approx(20 * 20 * 4, rel=0.01)
    assert long.warmup_share * (long.workload.num_requests or 0) >= 2 * 20 * 4 * 0.99


def test_what_users_ask_at_least_and_what_hardware_answers_at_most(tmp_path: Path) -> None:
    read = read_plan(read_raw(study(tmp_path, TEXT)))
    one = built(read)[0]
    ((answers,),) = rates_of(one.study)
    assert 0 < answers < math.inf, "prompts may be cached: they bound nothing"
    # Of four turns three are thought about for 0.1 s, the first for 0.3 s on average; an answer of
    # 16 tokens on average may take 0.1 s and 20 ms a token.
    lap_s = (0.3 + 3 * 0.1) / 4 + 0.1 + 0.02 * 16
    assert Problem(read, 1.0).least_rate_per_s(one) == pytest.approx(20 / lap_s, rel=0.1)


def test_traffic_of_users_is_whole_users(tmp_path: Path) -> None:
    """The pair around the root is of numbers of users, and told as parts of the study's."""
    read = read_plan(read_raw(study(tmp_path, TEXT)))
    one = Traffic(built(read)[0].study, 500)
    assert (one.is_whole, one.value, one.key) == (True, 20, "users")
    assert one.at(13).workload.arrivals.users == 13
    asked: list[int] = []

    def ask(trials: list) -> list:
        asked.extend(trial.study.workload.arrivals.users for trial in trials)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        held_by(
            one.point, ask, promises=promises_of(read.study.slo), fewest=500, capacity=math.nan,
            label="", around=0.3,
        )  # fmt: skip
    assert set(asked) == {5, 7}


def test_assumptions_of_conversations(tmp_path: Path) -> None:
    text = TEXT.replace(
        "system_tokens: 40}",
        "tools: {calls: {distribution: exponential, mean: 3}, output: {distribution: constant, "
        "value: 20}, result: {distribution: lognormal, mean: 30, cv: 1}, time_s: 0.1}}",
    )
    found = {one.name: one.values for one in assumptions(
        read_plan(read_raw(study(tmp_path, text))).studies[0], {})}  # fmt: skip
    assert found["prompts +10%"]["workload.sessions.tools.result.mean"] == pytest.approx(33)
    assert found["outputs +10%"]["workload.sessions.tools.output.value"] == 22
    assert found["turns -10%"] == {"workload.sessions.tools.calls.mean": pytest.approx(2.7)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (USERS, POISSON + USERS.splitlines(True)[1], "begin by themselves yet"),
        ("users: 20", "users: 0", "users"),
    ],
)
def test_what_is_not_planned_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_plan(read_raw(study(tmp_path, TEXT.replace(old, new))))
