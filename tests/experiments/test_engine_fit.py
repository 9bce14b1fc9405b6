"""An engine's constants are found again in runs that they were put into."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.cli.fit import main
from experiments.validation.fitting import BOUNDS, PRIOR, fit_constants, priced
from experiments.validation.predict import Task, plan, predict
from experiments.validation.rows import read_table

TRUE = {"layer_overhead_s": 2.5e-5, "api_request_s": 9e-3}
METRICS = ("ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms")
MODELS = (("a", "llama-3.1-8b", 2), ("b", "qwen3-14b", 1), ("c", "mistral-7b", 4))


def write(path: Path, measured: dict[str, dict[str, float]] | None = None) -> Path:
    columns = ["run_id", "model", "gpu", "engine_version", "request_rate_rps", "n_requests",
               "isl_mean", "osl_spec", "req_s", *METRICS]  # fmt: skip
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, columns)
        rows.writeheader()
        for run, model, rate in MODELS:
            load = {"request_rate_rps": rate, "n_requests": 150, "req_s": rate}
            server = {"model": model, "gpu": "H100-SXM", "engine_version": "0.15.1"}
            lengths = {"isl_mean": 300, "osl_spec": "fixed 32"}
            rows.writerow(
                {"run_id": run, **server, **load, **lengths, **(measured or {}).get(run, {})}
            )
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs whose measurements are predictions with known constants."""
    folder = tmp_path_factory.mktemp("runs")
    tasks = plan(read_table(write(folder / "bare.csv")), seeds=1).tasks
    found, _ = predict(tasks, lambda task: priced(task, TRUE))
    measured = {one.row.run_id: {m: one.values[m][0] for m in METRICS} for one in found}
    return write(folder / "runs.csv", measured)


@pytest.fixture(scope="module")
def tasks(runs: Path) -> tuple[Task, ...]:
    return plan(read_table(runs), seeds=1).tasks


def test_constants_are_found_again(tasks: tuple[Task, ...]) -> None:
    found = fit_constants(tasks, list(TRUE))
    for name, value in TRUE.items():
        assert found.values[name] == pytest.approx(value, rel=0.05), name
        assert 0 < found.std[name] < value
    assert found.runs == 3
    assert len(found.rows) == 9


def test_of_what_no_run_tells_only_the_prior_is_known(tasks: tuple[Task, ...]) -> None:
    name = "collective_overhead_s"  # all of them are on one GPU
    found = fit_constants(tasks, ["layer_overhead_s", name])
    assert found.values[name] == pytest.approx(BOUNDS[name][1])
    assert found.std[name] == pytest.approx(PRIOR * found.values[name])


def test_without_a_run_the_others_decide(tasks: tuple[Task, ...]) -> None:
    false = (
        tasks[0]
        .rows[0]
        .model_copy(update={"measured": {m: 2 * v for m, v in tasks[0].rows[0].measured.items()}})
    )
    disturbed = [replace(tasks[0], rows=(false,)), *tasks[1:]]
    found = fit_constants(disturbed, list(TRUE))
    without = found.without({"a"})
    for name, value in TRUE.items():
        assert abs(without[name] / value - 1) < abs(found.values[name] / value - 1)
        low, _, high = BOUNDS[name]
        assert low <= without[name] <= high


def test_the_command_prints_constants_and_cross_validates(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--constants", "layer_overhead_s,api_request_s", "--folds", "3", "--jobs", "1"]
    assert main([str(runs), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "values: {layer_overhead_s: " in shown
    assert "leaving out folds" in shown
    assert "e2e_mean_ms" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--constants", "speed"], "--constants speed: expected some of"),
        (["--only", "nothing"], "--only 'nothing': no run matches"),
    ],
)
def test_mistakes_are_named(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(runs), *arguments]) == 2
    assert message in capsys.readouterr().err
