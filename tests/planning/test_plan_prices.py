"""What tests and holds leave open of a price, and how the page tells it."""

from pathlib import Path
from typing import cast

import pytest
from test_branching import Known, state

from experiments.cli.plan import main
from experiments.planning.plan.demand import Curve, Demand
from experiments.planning.plan.priced import least_usd, smallest
from experiments.planning.probes import Probe
from experiments.reporting.page.base import data_of


def test_a_candidate_costs_at_least_one_replica_more_than_surely_miss() -> None:
    one = state(1, "h100", 2.0, 3)
    assert least_usd(one) == 6.0  # by its capacity alone
    one.probes = {
        count: cast(Probe, Known(count, needed=8, undecided=(6, 7))) for count in (5, 6, 7, 8)
    }
    assert least_usd(one) == 12.0  # 5 miss, of 6 nobody knows


@pytest.mark.parametrize(
    ("each", "available", "wanted"),
    [(1.0, 1.0, 4), (0.9, 1.0, 5), (1.1, 1.0, 4), (1.4, 1.0, 3), (1.0, 0.9, 6), (0.01, 1.0, 50)],
)
def test_the_smallest_deployment_whose_risk_may_be_taken(
    each: float, available: float, wanted: int
) -> None:
    """Four times the traffic is asked for: more where replicas hold less, or may be away."""
    demand = Demand(growth=4.0, spread=0.0, share=0.05)
    assert smallest(Curve({4: 4 * each}), demand, available, 1, 50) == wanted


PLAN = """
kind: plan
name: bought
model: opt-125m
engine: {dtype: float16}
workload:
  arrivals: {process: poisson, rate_per_s: 600}
  lengths:
    prompt: {distribution: uniform, min: 10, max: 60}
    output: {distribution: uniform, min: 2, max: 30}
slo: {ttft_s: 0.015, tpot_s: 0.02, attainment: 0.95}
candidates: {cluster.gpu: [t4, l40s], engine.max_num_seqs: [4, 64]}
run_requests: 2000
runners_up: 1
"""


def test_a_plan_without_an_answer_says_why_at_once(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("opt-125m", "llama-3-70b"))
    out = tmp_path / "out"
    assert main([str(tmp_path / "plan.yaml"), "--out", str(out), "--jobs", "1"]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    told = data_of(text)["verdict"]
    assert told["text"] == "Nothing among the candidates keeps it: 4 do not fit."
    assert told["state"] == "missed"
    assert "does not fit on t4 at tensor_parallel_size = 1</td>" in text


def test_the_page_has_prices_with_what_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    out = tmp_path / "out"
    words = [str(tmp_path / "plan.yaml"), "--out", str(out), "--no-figures", "--jobs", "1"]
    assert main(words) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    bars = data_of(text)["figures"][0]["rows"]
    answer = bars[0]["value"]
    assert bars[0]["strong"]
    for bar in bars:
        if bar["low"] is not None:
            assert bar["low"] <= bar["value"] <= bar["high"]
            assert bar["low"] < bar["high"]
        if bar["hollow"]:
            assert bar["text"].startswith(f"{bar['name']}: at least ")
    assert f"{answer:,.2f}" in text
    assert "(95%); " in text  # the interval of what it holds


def test_the_answer_says_which_contract_its_price_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PLAN.replace("[t4, l40s]", "[l40s]").replace("ttft_s: 0.015", "ttft_s: 0.1")
    prices = "prices: {l40s: {on_demand: 1.9, reserved: 1.0}}\ncontract: reserved\n"
    (tmp_path / "plan.yaml").write_text(text + prices)
    out = tmp_path / "out"
    assert main([str(tmp_path / "plan.yaml"), "--out", str(out), "--jobs", "1"]) == 0
    answer = capsys.readouterr().out.split("answer   ")[1].split("\n")[0]
    assert ": 1 GPU, 1.00 USD/h reserved (730 USD a month). " in answer
    assert (out / "plan.csv").read_text().count(",reserved,") >= 1
    assert "1.00 USD/h reserved (730 USD a month)" in (out / "report.html").read_text()
    assert main([str(tmp_path / "plan.yaml"), "--dry-run"]) == 0
    assert "1.00 USD/h a replica, reserved" in capsys.readouterr().out
