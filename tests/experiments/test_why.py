"""Why a latency is what it is: parts that add up, what binds, and limits that no rate keeps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_rows import requests
from study_files import run_cli, write_study

from experiments.reporting import why
from experiments.reporting.records import Records
from experiments.reporting.why import parts_of, why_lines
from experiments.running.api import load_study, run_study
from experiments.running.lone import lone_ttft_s
from experiments.study.build import scenario_of
from sim.measuring.binding import RESOURCES, binding
from sim.measuring.steady_state import measured_window
from sim.settings.cluster_config import ClientConfig
from sim.simulation import simulate
from tests.sim import small

ALONE = {"sweep": {}, "seeds": 1, "workload.num_requests": 200}


def test_files_and_the_terminal_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run_cli(write_study(tmp_path), "--out", out, "--why") == 0
    assert "point 1: TTFT p99" in capsys.readouterr().out
    table = pd.read_csv(out / "decomposition.csv")
    for _, rows in table[table["span"].isin(("ttft", "e2e"))].groupby(
        ["point", "span", "percentile"]
    ):
        assert rows["share"].sum() == pytest.approx(1)
    requests = pd.read_parquet(out / "requests.parquet").query("measured == 1 and point == 1")
    mean_s = (requests["first_token_s"] - requests["sent_s"]).mean()
    rows = table.query("point == 1 and span == 'ttft' and percentile == 0")
    assert rows["seconds"].sum() == pytest.approx(mean_s)
    bound = pd.read_csv(out / "binding.csv")
    assert set(bound["bound_by"]) <= set(RESOURCES)
    assert len(bound) == 2 * 400


def test_parts_are_those_of_the_requests_about_a_percentile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of what is beyond on each side, 2.5% of all at most, and one request at least."""
    columns = requests(1000)
    ttft_s = np.sort(columns["first_token_s"] - columns["sent_s"])
    rows = parts_of(columns, 0.0)

    def at(rows: list[dict], percent: int) -> tuple[float, int]:
        mine = [row for row in rows if (row["span"], row["percentile"]) == ("ttft", percent)]
        (count,) = {row["requests"] for row in mine}
        return sum(row["seconds"] for row in mine), count

    for percent, first, last in ((0, 0, 1000), (50, 475, 525), (95, 925, 975), (99, 985, 995)):
        assert at(rows, percent) == (pytest.approx(ttft_s[first:last].mean()), last - first)
    few = requests(7)
    longest_s = (few["first_token_s"] - few["sent_s"]).max()
    assert at(parts_of(few, 0.0), 90) == (pytest.approx(longest_s), 1)
    monkeypatch.setattr(why, "ROWS", 300)  # of many requests, some are taken apart at a time
    for row, other in zip(rows, parts_of(columns, 0.0), strict=True):
        assert other == pytest.approx(row)


def test_parts_of_less_than_a_hundredth_are_not_told() -> None:
    shares = {"queue": 0.7, "prefill": 0.294, "api": 0.006}
    rows = [
        {"point": 1, "span": "ttft", "percentile": 99, "part": part, "seconds": share,
         "share": share}
        for part, share in shares.items()
    ]  # fmt: skip
    (line,) = why_lines(Records.of(rows), Records({"point": [1]}))
    assert line == "point 1: TTFT p99 1,000 ms: queue 70%, prefill 29%"


BOUND = {
    "seats": {"max_num_seqs": 1},
    "kv_blocks": {"num_gpu_blocks": 20, "max_num_seqs": 64},
    "token_budget": {"max_num_batched_tokens": 32, "max_num_seqs": 32},
}


@pytest.mark.parametrize("resource", BOUND)
def test_what_keeps_requests_out_is_named(resource: str) -> None:
    setting = small.scenario(block_size=16, **BOUND[resource])
    prompts, outputs = (
        ([200] * 60, [2] * 60) if resource == "token_budget" else ([60] * 60, [60] * 60)
    )
    arrivals = (np.arange(60) * 1e-4).tolist()
    result = simulate(setting, small.requests(arrivals, prompts, outputs))
    window = measured_window(result, 0.0)
    shares = binding(result, setting, window).shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == resource, shares


def test_without_a_queue_the_step_says_what_binds() -> None:
    arrivals = [0.0, 0.5]
    idle = simulate(small.scenario(), small.requests(arrivals, [4, 4], [2, 2]))
    shares = binding(idle, small.scenario(), measured_window(idle, 0.0)).shares()
    assert shares["idle"] > 0.9
    host = small.scenario(step_overhead_s=0.1)
    busy = simulate(host, small.requests([0.0, 5.0], [4, 4], [60, 2]))
    assert binding(busy, host, measured_window(busy, 0.0)).shares()["host"] > 0.9


def test_who_gave_up_keeps_nobody_waiting() -> None:
    """Three wait for the one seat and give up after a tenth of the time that it is taken."""
    client = ClientConfig(timeout_s=1.0)
    setting = small.scenario(max_num_seqs=1, step_overhead_s=0.1, client=client)
    arrivals = [0.0, 0.01, 0.02, 0.03, 10.0, 12.0]
    result = simulate(setting, small.requests(arrivals, [4] * 6, [9] * 6))
    assert result.requests["status"].tolist() == [1, 3, 3, 3, 1, 1]
    found = binding(result, setting, measured_window(result, 0.0))
    seats = found.resource == RESOURCES.index("seats")
    assert 0.9 < found.time_s[seats].max() < 1.1


def test_a_lone_request_is_priced_as_it_is_simulated(tmp_path: Path) -> None:
    settings = {
        **ALONE, "workload.num_requests": 3, "workload.arrivals.rate_per_s": 0.01,
        "engine.max_num_batched_tokens": 64, "engine.max_num_seqs": 4, "warmup_fraction": 0,
        "engine.async_scheduling": False, "engine.enable_prefix_caching": False,
        "workload.lengths.prompt": {"distribution": "constant", "value": 150},
    }  # fmt: skip
    study = load_study(write_study(tmp_path), settings)
    requests = run_study(study).requests
    ttft_s = (requests["first_token_s"] - requests["sent_s"]).tolist()
    assert lone_ttft_s(scenario_of(study, 0), 150) == pytest.approx(ttft_s[0], rel=1e-9)


def test_a_limit_that_no_rate_keeps(tmp_path: Path) -> None:
    slo = {"ttft_p99_s": 1e-4, "tpot_s": 1}
    summary = run_study(write_study(tmp_path), settings={**ALONE, "slo": slo}).summary
    note = summary["notes"][0]
    assert "no rate can save it: TTFT p99 is" in note
    assert "-token prompts takes it, and the limit is 0 ms" in note
    kept = run_study(write_study(tmp_path), settings={**ALONE, "slo": {"ttft_p99_s": 60}}).summary
    assert "no rate" not in kept["notes"][0]
