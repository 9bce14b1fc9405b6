"""Measured runs with prefill and decode apart: what they are taken for, and why."""

import csv
from pathlib import Path

import pytest
from measured_runs import run

from experiments.validation.levels import FULL
from experiments.validation.predict import Task, _scenario, plan, predict
from experiments.validation.releases import version_at
from experiments.validation.rows import read_table


def planned(folder: Path, seeds: int = 1, **cells: str) -> Task:
    """The task of one run of two A100, or what it says else."""
    told = {
        "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A100-80GB", "tp": "1", "n_gpus": "2",
        "engine_version": "0.8.5", "mode": "disagg 1P1D", "arrival_process": "constant",
        "request_rate_rps": "0.5", "n_requests": "40", "isl_mean": "4000", "osl_mean": "50",
        "isl_spec": "fixed", "osl_spec": "fixed",
    }  # fmt: skip
    line = run("a", **(told | cells))
    path = folder / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(line))
        writer.writeheader()
        writer.writerow(line)
    found = plan(read_table(path), seeds=seeds)
    assert not found.skipped
    return found.tasks[0]


def test_prompts_are_handed_over_where_the_row_says_so(tmp_path: Path) -> None:
    task = planned(tmp_path, mode="disagg 2P1D (NIXL)", n_gpus="3", itl_p99_ms="30")
    scenario = _scenario(task, task.calibration, FULL)
    assert [(pool.role, pool.replicas) for pool in scenario.pools] == [
        ("prefill", 2),
        ("decode", 1),
    ]
    ((predicted,), skipped) = predict([task])
    assert not skipped
    assert predicted.values["itl_p99_ms"][0] < 60 < predicted.values["ttft_mean_ms"][0]


def test_tokens_that_waited_for_prompts_tell_that_nothing_was_handed_over(tmp_path: Path) -> None:
    task = planned(tmp_path, itl_p99_ms="300", notes="behind a k8s service")
    scenario = _scenario(task, task.calibration, FULL)
    assert [(pool.role, pool.replicas) for pool in scenario.pools] == [("serve", 2)]
    assert scenario.router == "random"
    (told,) = (note for note in task.notes if note.startswith("mode = "))
    assert "disagg 1P1D: simulated as engines that serve whole requests" in told
    assert "waited 300 ms" in told


def test_who_was_sent_where_differs_by_seed(tmp_path: Path) -> None:
    """Requests are alike in all seeds; behind a random service replicas get others in each."""
    told = {"mode": "agg", "dp_replicas": "2", "request_rate_rps": "4"}
    differ = []
    for notes in ("behind a k8s service", "round robin"):
        task = planned(tmp_path, seeds=3, **told, notes=notes)
        arrivals = [traffic.requests.arrival_s.tolist() for traffic in task.traffic]
        assert arrivals == [arrivals[0]] * 3
        ((predicted,), _) = predict([task])
        _, low, high = predicted.values["ttft_p50_ms"]
        differ.append(high > low)
    assert differ == [True, False]


def test_recorded_requests_are_drawn_again_where_a_router_draws(tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text(
        "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i},4000,50\n" for i in range(20))
    )
    told = {"mode": "agg", "dp_replicas": "2", "per_request_file": "asked.csv"}
    counts = [
        len(planned(tmp_path, seeds=3, **told, notes=notes).traffic)
        for notes in ("behind a k8s service", "round robin")
    ]
    assert counts == [3, 1]


@pytest.mark.parametrize(
    ("run_id", "version"),
    [("benchmark_2025-05-11_23", "0.8.5"), ("benchmark_2025-05-20", "0.9.0"), ("x", "0.9.0")],
)
def test_a_build_between_releases_is_like_the_nearer_one(run_id: str, version: str) -> None:
    found = version_at("dev 2025-05", "", run_id)
    assert found is not None
    assert found[0] == version


@pytest.mark.parametrize(
    ("cells", "tokens"),
    [
        ({}, 4106),
        ({"engine_version": "0.9.2"}, 4000),
        ({"model": "Qwen/Qwen3-14B"}, 4000),
        ({"workload": "sharegpt"}, 4000),
        ({"notes": "guidellm"}, 4000),
    ],
)
def test_random_tokens_are_more_when_they_arrive(
    tmp_path: Path, cells: dict[str, str], tokens: int
) -> None:
    """Of vLLM's client before 0.9, with the tokenizer of which that is told."""
    told = {"mode": "agg", "workload": "random", "notes": "vllm benchmark_serving.py"}
    task = planned(tmp_path, **(told | cells))
    assert set(task.traffic[0].requests.prompt_tokens.tolist()) == {tokens}
    assert any("2.6% longer" in note for note in task.notes) == (tokens == 4106)
