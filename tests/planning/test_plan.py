"""``headroom plan`` from the file to the folder: small model, short runs, real processes."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from killed import kill_search
from ruamel.yaml import YAML

from experiments.cli.compare import main as compare_main
from experiments.cli.plan import main
from experiments.cli.run import main as run_main
from experiments.planning.api import run_search
from experiments.planning.plan.reading import read_plan
from experiments.study.document import read_raw
from experiments.study.errors import StudyError

SMALL = """\
kind: plan
name: small
description: What a small model needs.
model: opt-125m
cluster: {router: least_requests}
engine: {dtype: float16}
workload:
  arrivals: {process: poisson, rate_per_s: 600}
  lengths:
    prompt: {distribution: uniform, min: 10, max: 60}
    output: {distribution: uniform, min: 2, max: 30}
slo: {ttft_s: 0.1, tpot_s: 0.02, attainment: 0.95}
candidates: {cluster.gpu: [t4, l40s], engine.max_num_seqs: [4, 16, 64]}
also: [{cluster.gpu: l40s, model: llama-3-70b}]
prices: {t4: 0.5, l40s: {on_demand: 1.9, reserved: 1.0}}
run_requests: 2000
runners_up: 1
"""
PRICES = "prices: {t4: 0.5, l40s: {on_demand: 1.9, reserved: 1.0}}"
TABLES = ("plan.csv", "candidates.csv", "windows.csv", "sensitivity.csv", "winner.yaml")


def study(folder: Path, text: str = SMALL) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def run(path: Path, *words: object) -> int:
    return main([str(path), "--no-figures", "--jobs", "1", *map(str, words)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan that ran, with pictures."""
    folder = tmp_path_factory.mktemp("plan")
    out = folder / "out"
    assert main([str(study(folder)), "--out", str(out), "--jobs", "1"]) == 0
    return out


def test_it_leaves_a_folder_that_repeats_itself(planned: Path, tmp_path: Path) -> None:
    names = {*TABLES, "study.yaml", "serve.sh", "kubernetes.yaml", "plan.png", "report.html"}
    assert {each.name for each in planned.iterdir()} == {*names, "manifest.json"}
    again = tmp_path / "again"
    assert run_main([str(planned / "study.yaml"), "--out", str(again), "--jobs", "2"]) == 0
    for name in TABLES:
        assert (again / name).read_bytes() == (planned / name).read_bytes(), name


def test_every_candidate_has_a_fate_and_a_reason(planned: Path) -> None:
    found = rows(planned / "candidates.csv")
    assert len(found) == 7
    fates = {row["name"]: row["fate"] for row in found}
    assert list(fates.values()).count("answer") == 1
    assert fates["llama-3-70b l40s TP1"] == "does not fit"
    assert "does not fit" in next(row["why"] for row in found if row["fate"] == "does not fit")
    assert all(row["why"] for row in found)


def test_the_answer_is_the_cheapest_that_was_solved(planned: Path) -> None:
    answer, *runners_up = rows(planned / "plan.csv")
    assert answer["verdict"] == "kept"
    assert float(answer["missed_share"]) < 0.05
    assert len(runners_up) == 1
    assert float(runners_up[0]["usd_per_hour"]) >= float(answer["usd_per_hour"])
    for row in rows(planned / "candidates.csv"):
        if row["usd_per_hour"]:
            assert float(row["usd_per_hour"]) >= float(answer["usd_per_hour"]) - 1e-9
        elif row["fate"] == "price bound":
            assert float(row["bound_usd_per_hour"]) >= float(answer["usd_per_hour"]) - 1e-9


def test_the_winner_run_alone_gives_the_figures_of_the_plan(planned: Path, tmp_path: Path) -> None:
    out = tmp_path / "winner"
    words = [str(planned / "winner.yaml"), "--out", str(out), "--no-figures", "--jobs", "1"]
    assert run_main(words) == 0
    answer = rows(planned / "plan.csv")[0]
    runs = rows(out / "runs.csv")
    assert len(runs) == int(answer["runs"])
    kept = sum(float(row["slo_attainment"]) for row in runs) / len(runs)
    assert 1 - kept == pytest.approx(float(answer["missed_share"]), abs=1e-12)
    usd = [float(row["usd_per_hour"]) for row in runs]
    assert usd == pytest.approx([float(answer["usd_per_hour"])] * len(runs))


def test_a_plan_is_not_compared(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_main([str(planned), str(planned)]) == 2
    assert "holds what a study of kind plan found, expected" in capsys.readouterr().err


def test_the_winner_says_what_was_stated_and_chosen(planned: Path) -> None:
    winner = loaded(planned / "winner.yaml")
    assert {"cluster", "engine", "model", "slo", "workload"} < winner.keys()
    assert set(winner["cluster"]) == {
        "gpu", "tensor_parallel_size", "replicas", "router", "gpu_usd_per_hour",
    }  # fmt: skip
    assert winner["slo"] == {"ttft_s": 0.1, "tpot_s": 0.02, "attainment": 0.95}
    assert "max_num_seqs" in winner["engine"]


def test_a_plan_from_python(planned: Path, tmp_path: Path) -> None:
    result = run_search(study(tmp_path), settings={"sensitivity": {}})
    assert result.folder is None
    assert result.answer[1].startswith("answer   ")
    assert any("are applied to t4" in line for line in result.answer)
    assert "are applied to t4" in (planned / "report.html").read_text(encoding="utf-8")
    assert list(result.tables) == ["plan", "candidates", "windows", "sensitivity"]
    (answer, runner_up) = rows(planned / "plan.csv")
    assert result.tables["plan"]["deployment"].tolist() == [
        answer["deployment"], runner_up["deployment"],
    ]  # fmt: skip
    shown = result._repr_html_()
    assert shown.count("<tr") == 3
    assert answer["deployment"] in shown
    assert repr(result) == "\n".join(("<SearchResult of small", *result.answer)) + ">"
    titles = [axes.get_title() for axes in result.plot().axes]
    assert titles[0] == "candidates"
    with pytest.raises(StudyError, match="of kind serving, expected one of plan, capacity"):
        run_search("batching_sweep")


def test_commands_start_what_was_simulated(planned: Path) -> None:
    winner = loaded(planned / "winner.yaml")
    script = (planned / "serve.sh").read_text(encoding="utf-8")
    assert f"--max-num-seqs {winner['engine']['max_num_seqs']}" in script
    assert f"--tensor-parallel-size {winner['cluster']['tensor_parallel_size']}" in script
    assert "--dtype float16" in script
    deployment, service = YAML(typ="safe").load_all(
        (planned / "kubernetes.yaml").read_text(encoding="utf-8")
    )
    assert deployment["spec"]["replicas"] == winner["cluster"]["replicas"]
    assert service["kind"] == "Service"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["opt-125m", "--tensor-parallel-size", "1"]


def test_a_killed_plan_goes_on(planned: Path, tmp_path: Path) -> None:
    path, out = study(tmp_path), tmp_path / "out"
    kill_search("plan", path, out)
    assert run(path, "--out", out) == 0
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["resumed_runs"] >= 3
    for name in TABLES:
        assert (out / name).read_bytes() == (planned / name).read_bytes(), name


def test_doubt_and_growth_ask_for_more(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--set", "growth=2", "--set", "growth_cv=0.2", "--set", "also=[]"]
    assert run(study(tmp_path), "--out", out, *words) == 0
    before, after = rows(planned / "plan.csv")[0], rows(out / "plan.csv")[0]
    assert float(after["usd_per_hour"]) > 1.5 * float(before["usd_per_hour"])
    assert float(after["planned_multiple"]) == pytest.approx(2 * math.exp(2.3263 * 0.2), 1e-4)
    assert float(after["risk"]) <= 0.012
    assert "x2 growth (cv 20%)" in capsys.readouterr().out


def test_failures_buy_a_spare(planned: Path, tmp_path: Path) -> None:
    """A replica is away a tenth of the time, so that all that are bought are seldom there."""
    out = tmp_path / "out"
    words = ["--set", "failures={mtbf_h: 216, repair_h: 24, restart_s: 0}", "--set", "also=[]"]
    assert run(study(tmp_path), "--out", out, *words) == 0
    before, after = rows(planned / "plan.csv")[0], rows(out / "plan.csv")[0]
    assert float(after["usd_per_hour"]) > float(before["usd_per_hour"])
    assert after["risk_kept"] == "True"
    assert float(after["risk"]) <= 0.01
    own = next(row for row in rows(out / "candidates.csv") if row["fate"] == "answer")
    assert float(own["usd_per_hour"]) == float(after["usd_per_hour"])
    assert own["replicas"] == after["replicas"]  # a count, though others have none
    for row in rows(out / "sensitivity.csv"):
        if row["replicas"] and float(row["held"]) < 0:
            assert float(row["replicas"]) >= float(after["replicas"])


SPARE = """\
candidates:
- {cluster.gpu: t4, engine.max_num_seqs: 16}
- {cluster.gpu: l40s, engine.max_num_seqs: 2}
prices: {t4: 0.5, l40s: 0.2}
failures: {mtbf_h: 2000, repair_h: 24, restart_s: 300}
runners_up: 0
"""


def test_a_spare_of_something_small_is_cheaper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One large engine is cheaper than some small ones, but two are dearer than one more of those.

    Of either a replica is away 1.2% of the time, which is more than the 1% that may be.
    """
    base = SMALL.replace("rate_per_s: 600", "rate_per_s: 150").split("candidates:", 1)[0]
    out = tmp_path / "out"
    assert run(study(tmp_path, f"{base}run_requests: 2000\n{SPARE}"), "--out", out) == 0
    large, small = rows(out / "candidates.csv")
    assert (large["fate"], small["fate"]) == ("dearer", "answer")
    assert (large["replicas"], float(large["usd_per_hour"])) == ("2", 1.0)
    assert 0.5 < float(small["usd_per_hour"]) < 1.0
    assert "for 1.00 USD/h, +" in large["why"]
    (answer,) = rows(out / "plan.csv")
    assert answer["risk_lo"] == answer["risk_hi"] == ""  # no limit ends what it holds
    assert "its capacity; risk 0.0" in capsys.readouterr().out


def test_a_day_is_planned_by_its_windows(tmp_path: Path) -> None:
    """Two hours, the rate of the second half three times that of the first."""
    arrivals = (
        "{process: piecewise, steps: [{duration_s: 60, rate_per_s: 100}, "
        "{duration_s: 60, rate_per_s: 400}]}"
    )
    text = SMALL.replace("{process: poisson, rate_per_s: 600}", arrivals).replace(
        "slo:", "  duration_s: 120\nslo:"
    )
    text += "risk: {share: 0.1}\n"
    text = text.replace("attainment: 0.95", "attainment: 0.95, window_s: 5")
    out = tmp_path / "out"
    assert run(study(tmp_path, text), "--out", out, "--set", "also=[]") == 0
    answer = rows(out / "plan.csv")[0]
    assert answer["verdict"] == "kept"
    assert float(answer["missed_share"]) < 0.1
    windows = rows(out / "windows.csv")
    assert len(windows) == 24 * int(answer["runs"])
    lost = sum(row["kept"] == "False" for row in windows)
    assert lost / len(windows) == pytest.approx(float(answer["missed_share"]))
    alone = tmp_path / "winner"
    words = [str(out / "winner.yaml"), "--out", str(alone), "--no-figures", "--jobs", "1"]
    assert run_main(words) == 0
    assert sum(float(row["requests"]) for row in rows(alone / "runs.csv")) == sum(
        int(row["requests"]) for row in windows
    )


def test_a_trace_is_planned_with_other_luck(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    times = [at / 400 for at in range(20_000)]
    lines = [f"{at:.4f},{10 + row % 50},{2 + row % 28}" for row, at in enumerate(times)]
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    start, end = SMALL.index("  arrivals:"), SMALL.index("slo:")
    text = SMALL[:start] + "  trace: trace.csv\n" + SMALL[end:]
    text += "risk: {share: 0.1}\n"
    text = text.replace("attainment: 0.95", "attainment: 0.95, window_s: 5")
    out = tmp_path / "out"
    assert run(study(tmp_path, text), "--out", out, "--set", "also=[]") == 0
    winner = loaded(out / "winner.yaml")
    assert winner["workload"]["resample"] == {"window_s": 5.0}
    assert rows(out / "plan.csv")[0]["verdict"] == "kept"


def test_users_are_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrivals = "{process: closed_loop, users: 60, think_s: 0.05, think_law: exponential}"
    text = SMALL.replace("{process: poisson, rate_per_s: 600}", arrivals)
    out = tmp_path / "out"
    words = ["--set", "also=[]", "--format", "csv", "--fail-on-slo"]
    assert run(study(tmp_path, text), "--out", out, *words) == 0
    assert rows(out / "plan.csv")[0]["verdict"] == "kept"
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [one["deployment"] for one in printed] == [
        one["deployment"] for one in rows(out / "plan.csv")
    ]


def test_a_percentile_says_how_many_may_miss_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace("ttft_s: 0.1, tpot_s: 0.02, attainment: 0.95", "tpot_p95_s: 0.02")
    words = ["--set", "also=[]", "--set", "candidates={cluster.gpu: [t4]}", "--set", "prices={}"]
    assert run(study(tmp_path, text), "--out", tmp_path / "out", *words) == 0
    assert " of the requests miss TPOT p95 <= 20 ms, 5.0% may" in capsys.readouterr().out


def test_nothing_that_keeps_it_is_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace("tpot_s: 0.02", "tpot_s: 0.000001")
    out = tmp_path / "out"
    assert run(study(tmp_path, text), "--out", out) == 0
    told = capsys.readouterr().out
    assert "small: 600 requests/s" in told
    assert "nothing among the candidates keeps it" in told
    assert told.count("why not  ") == 6
    fates = {row["fate"] for row in rows(out / "candidates.csv")}
    assert fates == {"ceiling", "does not fit"}
    assert not (out / "winner.yaml").exists()
    words = ["--out", out, "--format", "json", "--fail-on-slo"]
    assert run(tmp_path / "small.yaml", *words) == 1
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(("contract", "usd"), [("on_demand", 1.9), ("reserved", 1.0), ("own", 0.7)])
def test_a_contract_decides_which_price_is_paid(tmp_path: Path, contract: str, usd: float) -> None:
    text = SMALL.replace("reserved: 1.0}", "reserved: 1.0, own: 0.7}") + f"contract: {contract}\n"
    plan = read_plan(read_raw(study(tmp_path, text)))
    paid = {str(one.cluster.gpu): one.cluster.gpu_usd_per_hour for one in plan.studies}
    assert paid == {"t4": 0.5, "l40s": usd}


def test_what_an_assumption_changes_is_told(tmp_path: Path) -> None:
    """Longer answers leave less; where the capacity ends what is held, its ratio is told."""
    out = tmp_path / "out"
    words = ["--set", "also=[]", "--set", "sensitivity={engine.max_num_seqs: [2]}"]
    assert run(study(tmp_path), "--out", out, *words) == 0
    found = {row["change"]: row for row in rows(out / "sensitivity.csv")}
    assert float(found["outputs +10%"]["held"]) < 0 < float(found["outputs -10%"]["held"])
    (seats,) = (row for name, row in found.items() if name.startswith("engine.max_num_seqs"))
    assert float(seats["held"]) < -0.3
    assert float(seats["replicas"]) > 1
