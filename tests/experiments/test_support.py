"""What percentiles rest on: all requests of all seeds, the load, and how much of the tail."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from study_files import SMALL, run_cli, write_study

from experiments.reporting.basis import Basis, Pooled
from experiments.reporting.intervals import sectioned_ends
from experiments.reporting.records import Records
from experiments.reporting.stats import summarise_points
from experiments.reporting.support import (
    Load,
    effective,
    needed,
    relaxations,
    support_notes,
    too_short,
)
from experiments.reporting.verdict import KEPT, MISSED, UNDECIDED, verdict
from experiments.running.api import load_study, run_study
from experiments.running.capacity import capacity_per_s
from experiments.running.pooling import load_of, rates_of
from sim.measuring.slo import Slo

CONSTANT = {
    "workload.lengths": {
        "prompt": {"distribution": "constant", "value": 50},
        "output": {"distribution": "constant", "value": 20},
    },
    "sweep": {},
}


def test_the_floor_of_a_p99() -> None:
    """Requests for 30 effective ones beyond a p99, by load: the values of the formula by hand."""
    floors = {0.3: 13469, 0.7: 73333, 0.9: 660_000, 0.95: 2_640_000}
    for share, expected in floors.items():
        load = Load(share * 8, 8.0, 1.0, 1)
        assert needed(99, load.effect) == pytest.approx(expected, rel=1e-4)
    assert Load(0.1, 1, 1, 1).effect == 3
    assert Load(0.9, 1, 4, 1).effect == pytest.approx(4 * Load(0.9, 1, 0.2, 1).effect)
    assert Load(3.6, 4, 1, 4).effect == pytest.approx(220 / 4)
    assert Load(1.0, 1, 1, 1).effect == math.inf
    assert (Load(0.96, 1, 1, 1).too_near, Load(0.97, 1, 1, 1).too_near) == (False, True)


def test_replicas_share_a_queue_only_if_their_router_looks() -> None:
    """Blind dealing leaves each its own queue, which sees but its part of the requests."""
    alone, shared = Load(0.9, 1, 1, 1), Load(3.6, 4, 1, 4)
    blind = Load(3.6, 4, 1, 4, shared=False)
    assert (alone.effect, shared.effect, blind.effect) == pytest.approx((220, 55, 220))
    forgets = (alone.relaxation, shared.relaxation, blind.relaxation)
    assert forgets == pytest.approx((220, 220, 880))
    assert Load(1.0, 1, 1, 1).relaxation == math.inf


def row(requests: float, seeds: int, load: float, effect: float) -> dict[str, float]:
    percentiles = {f"{name}_p{p}_s": 0.1 for name in ("ttft", "tpot") for p in (50, 90, 95, 99)}
    known = {"measured_requests": requests, "seeds": float(seeds), "load": load}
    return {**percentiles, **known, "design_effect": effect}


def test_ten_short_seeds_near_saturation_say_so() -> None:
    """10 seeds of 1,200 requests at 90% load: 108 in the tail, half an independent one."""
    short = row(1080, 10, 0.9, Load(9, 10, 1, 1).effect)
    assert effective(short, "ttft_p99_s") == pytest.approx(108 / 220)
    assert effective(short, "tpot_p99_s") == pytest.approx(27)
    assert effective(short, "ttft_mean_s") == math.inf
    notes = support_notes(short, {"ttft": "TTFT", "tpot": "TPOT"})
    assert notes == [
        "TTFT p99 rests on 0.49 independent requests of the tail (10,800 requests at 90% load), "
        "660,000 are needed (p50, p90 and p95 too)",
        "TPOT p99 rests on 27 independent requests of the tail (10,800 requests at 90% load), "
        "12,000 are needed",
    ]
    assert support_notes(row(100_000, 10, 0.9, 220), {"ttft": "TTFT"}) == []
    assert support_notes(row(100_000, 10, 0.98, 5500), {"ttft": "TTFT"})[0].startswith("too near")
    assert support_notes({"measured_requests": 10.0}, {"ttft": "TTFT"}) == []


def test_runs_too_short_for_their_load_are_told_and_keep_nothing() -> None:
    """1,200 requests at 90% load, a tenth of them warm-up: 4.9 times what the queue forgets in."""
    load = Load(9, 10, 1, 1)
    forgets = {"relaxation_requests": load.relaxation, "relaxation_s": load.relaxation / 9}
    known = {"requests": 1200.0, "saturated": 0.0, **forgets}
    short = row(1080, 10, 0.9, load.effect) | known
    assert relaxations(short) == pytest.approx(1080 / 220)
    assert support_notes(short, {})[0] == (
        "too short for its load: at 90% of capacity a queue forgets its start after 220 requests "
        "(24 s), and each run measures 4.9 times that: TTFT, E2E and the share that keeps the slo "
        "come out too good, and their intervals too narrow, 2,400 requests per seed would do (or "
        "precision: 10%)"
    )
    all_good = {"slo_attainment": 1.0, "slo_attainment_lo": 0.999, "slo_attainment_hi": 1.0}
    waits, tokens = Slo(ttft_s=1, attainment=0.99), Slo(tpot_s=1, attainment=0.99)
    assert verdict(short | all_good, waits, exact=False)[0] == UNDECIDED
    assert verdict(short | all_good, tokens, exact=False)[0] == KEPT
    long = short | {"requests": 2445.0, "measured_requests": 2201.0}
    assert not too_short(long)
    assert support_notes(long, {}) == []
    assert verdict(long | all_good, waits, exact=False)[0] == KEPT
    assert not too_short({**short, "load": 0.98})  # no length would do, which is told apart
    assert not too_short({"measured_requests": 10.0})


def test_short_runs_are_told_of_some_metrics_alone_as_of_all() -> None:
    """The length that would do follows from that of the runs, which need not be shown."""
    load = Load(9, 10, 1, 1)
    seeds = [
        {"seed": seed, "requests": 1200, "measured_requests": 1080, "saturated": 0.0,
         "unfinished": 0, "rejected": 0, "timed_out": 0, "ttft_mean_s": 0.1}
        for seed in range(3)
    ]  # fmt: skip
    shown = [
        summarise_points(Records.of(seeds), [], names, bases=[Basis(load=load)]).rows()[0]["notes"]
        for names in (["ttft_mean_s"], ["requests", "ttft_mean_s"])
    ]
    assert shown[0] == shown[1]
    assert "2,400 requests per seed would do" in shown[0]


def test_runs_too_short_to_show_it_are_saturated_beyond_capacity() -> None:
    """At 3% over the capacity, which is known to 1.5%; nearer to it nobody can tell."""
    for rate_per_s, expected in ((10.2, math.nan), (10.4, 1.0)):
        seeds = [
            {"seed": seed, "requests": 1200, "measured_requests": 1080, "saturated": found,
             "unfinished": 0, "rejected": 0, "timed_out": 0, "slo_attainment": 0.7 + 0.1 * seed}
            for seed, found in enumerate((math.nan, math.nan))
        ]  # fmt: skip
        basis = Basis(load=Load(rate_per_s, 10.0, 1, 1), slo=Slo(ttft_s=1, attainment=0.75))
        names = ["saturated", "slo_attainment"]
        (found,) = summarise_points(Records.of(seeds), [], names, bases=[basis]).rows()
        assert found["saturated"] == pytest.approx(expected, nan_ok=True)
        known = not math.isnan(expected)
        assert found["slo_verdict"] == (MISSED if known else UNDECIDED)
        assert ("grows without bound" in found["notes"]) == known
        assert ("too short to tell" in found["notes"]) == (not known)
        assert ("too near to capacity" in found["notes"]) == (not known)


def test_a_seed_that_is_too_short_to_tell_does_not_hide_that_another_is_saturated() -> None:
    """It is, in at least one seed; nobody looks for the load of such a point."""
    for found, expected in (((1.0, math.nan), 1.0), ((0.0, math.nan), math.nan), ((0.0, 1.0), 0.5)):
        seeds = [
            {"seed": seed, "requests": 400, "measured_requests": 360, "saturated": one,
             "unfinished": 0, "rejected": 0, "timed_out": 0}
            for seed, one in enumerate(found)
        ]  # fmt: skip
        (row,) = summarise_points(Records.of(seeds), [], ["saturated"], bases=[Basis()]).rows()
        assert row["saturated"] == pytest.approx(expected, nan_ok=True)
        assert ("grows without bound" in row["notes"]) == (1.0 in found)


def test_an_interval_by_sections() -> None:
    """By hand: ln 2 on both sides of a pooled value, and t with one degree of freedom."""
    low, high = sectioned_ends(2.0, [1.0, 4.0], 0.95)
    half = stats.t.ppf(0.975, 1) * math.sqrt(2 * math.log(2) ** 2 / 1 / 2)
    assert (low, high) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)))
    for value, sections in ((2.0, [1.0]), (2.0, [3.0, 3.0]), (math.inf, [1, 2]), (1, [0, 2])):
        assert all(map(math.isnan, sectioned_ends(value, sections, 0.95)))


def test_sections_cover() -> None:
    """The p90 of all of 8 x 200 exponential values: 95% cover; the means of the p90s are biased.

    Misses of 1,500 intervals are Binomial(1500, 0.05) if they are right; the accepted range leaves
    out 1e-6 on each side.
    """
    rng = np.random.default_rng(5)
    truth, missed = math.log(10), 0
    for _ in range(1500):
        sample = rng.exponential(size=(8, 200))
        low, high = sectioned_ends(
            float(np.percentile(sample, 90)), np.percentile(sample, 90, axis=1).tolist(), 0.95
        )
        missed += not low <= truth <= high
    low, high = stats.binom.ppf([1e-6, 1 - 1e-6], 1500, 0.05)
    assert low <= missed <= high


def test_capacity_of_one_seat_is_one_request_after_the_other(tmp_path: Path) -> None:
    settings = {**CONSTANT, "engine.max_num_seqs": 1, "engine.async_scheduling": False}
    study = load_study(write_study(tmp_path), settings)
    alone = run_study(study).requests
    busy_s = (alone["finish_s"] - alone["first_scheduled_s"]).median()
    assert capacity_per_s(study) == pytest.approx(1 / busy_s, rel=0.02)
    several = load_study(
        write_study(tmp_path), {**settings, "cluster.replicas": 3, "client.timeout_s": 1e-3}
    )
    assert capacity_per_s(several) == pytest.approx(3 / busy_s, rel=0.02)


def test_points_have_a_load_where_there_is_one(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path), {"sweep": {}, "engine.max_num_seqs": 4})
    load = load_of(study)
    assert load is not None
    assert load.rate_per_s == 20
    assert load.share == 20 / load.capacity_per_s
    assert rates_of(study)["output_tokens_per_s"] == ("offered_output_tokens_per_s", 20 * 16)
    users = {"process": "closed_loop", "users": 3}
    closed = load_study(write_study(tmp_path), {"sweep": {}, "workload.arrivals": users})
    assert load_of(closed) is None
    assert rates_of(closed) == {}


def test_percentiles_are_those_of_all_requests_of_all_seeds(tmp_path: Path) -> None:
    result = run_study(write_study(tmp_path), settings={"workload.num_requests": 300, "seeds": 3})
    for number, point in enumerate(result.summary.to_dict("records"), start=1):
        rows = result.requests.query(f"point == {number} and measured == 1")
        assert len(rows) == 3 * 270
        ttft_s, gaps = rows["first_token_s"] - rows["sent_s"], rows["output_tokens"] - 1
        tpot_s = ((rows["finish_s"] - rows["first_token_s"]) / gaps)[gaps > 0]
        for percent in (50, 90, 95, 99):
            assert point[f"ttft_p{percent}_s"] == pytest.approx(np.percentile(ttft_s, percent))
            assert point[f"tpot_p{percent}_s"] == pytest.approx(np.percentile(tpot_s, percent))
            seeds = result.runs.query(f"point == {number}")[f"itl_p{percent}_s"]
            assert seeds.min() <= point[f"itl_p{percent}_s"] <= seeds.max()
    first, last = result.summary.to_dict("records")
    assert 0.9 < first["load"] < 0.97
    assert math.isnan(first["ttft_p50_s_lo"])
    assert f"at {first['load']:.0%} load" in first["notes"]
    assert 0.2 < last["load"] < 0.6
    assert last["ttft_p50_s_lo"] < last["ttft_p50_s"] < last["ttft_p50_s_hi"]
    assert math.isnan(last["ttft_p99_s_lo"])
    assert "TTFT p99 rests on" in last["notes"]


def test_one_seed_has_intervals_of_its_pieces(tmp_path: Path) -> None:
    settings = {"workload.num_requests": 4000, "seeds": 1, "engine.max_num_seqs": 16, "sweep": {}}
    (point,) = run_study(write_study(tmp_path), settings=settings).summary.to_dict("records")
    assert point["ttft_p50_s_lo"] < point["ttft_p50_s"] < point["ttft_p50_s_hi"]
    assert math.isnan(point["output_tokens_per_s_lo"])
    assert "one run in 10 pieces" in point["notes"]


def test_rates_lose_the_luck_of_their_arrivals() -> None:
    """Served is what came, but for 0.1 in one seed: only that is left of the noise."""
    offered = np.array([8.0, 9.0, 10.5, 11.0])
    served = offered + np.array([0, 0.1, 0, 0])
    runs = Records(
        {"seed": range(4), "measured_requests": [9000.0] * 4, "offered_per_s": offered,
         "request_throughput_per_s": served, "goodput_per_s": served, "slo_attainment": [1.0] * 4}
    )  # fmt: skip
    expected = {"request_throughput_per_s": ("offered_per_s", 10.0)}
    basis = Basis(None, Pooled({}), Load(10, 20, 1, 1), expected)
    (point,) = summarise_points(runs, [], bases=[basis]).rows()
    assert point["request_throughput_per_s"] == pytest.approx(10.025)
    assert point["goodput_per_s"] == pytest.approx(10.025)
    assert point["request_throughput_per_s_hi"] < 10.2
    assert point["capacity_per_s"] == 20
    near = Basis(None, Pooled({}), Load(10, 10, 1, 1), expected)
    (point,) = summarise_points(runs, [], bases=[near]).rows()
    assert point["request_throughput_per_s"] == pytest.approx(served.mean())


def test_the_luck_of_arrivals_counts_as_far_as_they_are_served() -> None:
    """Half of what comes is given up: of one request per second too many half a one is served."""
    offered = np.array([10.5, 11.0, 11.5])
    served = offered / 2
    runs = Records(
        {"seed": range(3), "measured_requests": [9000.0] * 3, "timed_out": [9000.0] * 3,
         "offered_per_s": offered, "request_throughput_per_s": served, "goodput_per_s": served,
         "slo_attainment": [0.48] * 3}
    )  # fmt: skip
    expected = {"request_throughput_per_s": ("offered_per_s", 10.0)}
    basis = Basis(None, Pooled({}), Load(10, 20, 1, 1), expected)
    (point,) = summarise_points(runs, [], bases=[basis]).rows()
    assert point["request_throughput_per_s"] == pytest.approx(5.0)
    assert point["goodput_per_s"] <= point["request_throughput_per_s"]  # a part of it


def test_the_terminal_shows_what_is_firm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, SMALL.replace("num_requests: 20", "num_requests: 2000"))
    assert run_cli(path, "--out", tmp_path / "out", "--set", "engine.max_num_seqs=16") == 0
    shown = capsys.readouterr().out
    assert "TTFT p99 rests on" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("│"))
    assert "~" in line


BUSY = """\
model: opt-125m
cluster: {gpu: t4}
engine: {dtype: float16, max_num_seqs: 1, async_scheduling: false}
workload:
  arrivals: {process: poisson, rate_per_s: 1}
  lengths:
    prompt: {distribution: constant, value: 50}
    output: {distribution: constant, value: 20}
  num_requests: 600
slo: {ttft_s: 1000, attainment: 0.9}
seeds: 2
"""


def test_the_table_marks_points_whose_runs_are_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One seat, at half of what it takes and close to it."""
    full = capacity_per_s(load_study(write_study(tmp_path, BUSY)))
    rates = f"sweep: {{workload.arrivals.rate_per_s: [{0.5 * full}, {0.93 * full}]}}\n"
    path, out = write_study(tmp_path, BUSY + rates), tmp_path / "out"
    assert run_cli(path, "--out", out, "--no-figures") == 0
    shown = capsys.readouterr().out
    calm, busy = (line for line in shown.splitlines() if KEPT in line or UNDECIDED in line)
    assert (KEPT in calm, "too short" in calm) == (True, False)
    assert (UNDECIDED in busy, "too short" in busy) == (True, True)
    assert "~100.0" in busy
    assert "note: point 2: too short for its load: at 93% of capacity" in " ".join(shown.split())
    names = (out / "summary.csv").read_text().splitlines()[0].split(",")
    assert {"relaxation_requests", "relaxation_s"} <= set(names)
    assert "too short for its load" in (out / "report.html").read_text()
