"""Traffic of measured runs: what a prediction is sent."""

from pathlib import Path

import numpy as np
import pytest

from experiments.validation.rows import Run, row_of
from experiments.validation.settings import setup_of
from experiments.validation.traffic import CannotPredictError, Traffic, plan_traffic
from sim.settings.engine_config import EngineConfig
from tests.experiments.measured_runs import run, write_requests


def engine_of(**cells: str) -> EngineConfig:
    return setup_of(row_of(run("a", **cells)), 1000).engine


def traffic_of(folder: Path, seed: int = 0, **cells: str) -> Traffic:
    return plan_traffic(Run("a", (row_of(run("a", **cells)),)), folder).draw(seed)


def test_recorded_requests_are_replayed(tmp_path: Path) -> None:
    write_requests(
        tmp_path / "a.csv", "arrival_s,prompt_id,input_tokens,output_tokens_true,error",
        [(1.0, 4, 100, 20, 0), (2.0, 5, 90, 21, 0), (4.0, 4, 100, 22, 0)],
    )  # fmt: skip
    traffic = traffic_of(tmp_path, per_request_file="a.csv")
    requests = traffic.requests
    assert requests.arrival_s.tolist() == [1.0, 2.0, 4.0]
    assert requests.prompt_tokens.tolist() == [100, 90, 100]
    assert requests.output_tokens.tolist() == [20, 21, 22]
    assert requests.prefixes is not None
    assert requests.prefixes.streams.tolist()[0] == requests.prefixes.streams.tolist()[2]


def test_requests_are_drawn_from_the_description(tmp_path: Path) -> None:
    one, other = traffic_of(tmp_path), traffic_of(tmp_path, seed=1)
    assert len(one.requests) == 40  # 2 per second for 20 seconds
    assert set(one.requests.prompt_tokens) == {200}
    assert set(one.requests.output_tokens) == {20}
    assert one.requests.prefixes is None
    assert not np.array_equal(one.requests.arrival_s, other.requests.arrival_s)
    even = traffic_of(tmp_path, arrival_process="constant").requests.arrival_s
    assert np.diff(even) == pytest.approx(np.full(39, 0.5))
    bursty = traffic_of(tmp_path, burstiness="0.05", n_requests="4000").requests.arrival_s
    smooth = traffic_of(tmp_path, n_requests="4000").requests.arrival_s
    spread = [np.diff(times).std() / np.diff(times).mean() for times in (bursty, smooth)]
    assert spread == pytest.approx([0.05**-0.5, 1.0], rel=0.2)


def test_shared_prefix_prompts_are_asked_in_turn(tmp_path: Path) -> None:
    traffic = traffic_of(
        tmp_path, isl_spec="2 groups x 3 prompts = 6 distinct prompts; sys=100 q=466"
    )
    requests = traffic.requests
    assert requests.prefixes is not None
    assert np.array_equal(requests.prompt_tokens[:6], requests.prompt_tokens[6:12])
    streams = requests.prefixes.streams.reshape(-1, 2)
    assert streams[:6, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(streams[:6], streams[6:12])
    assert len(set(streams[:6, 1].tolist())) == 6
    assert traffic.timeout_s == 300.0


def test_closed_loops_and_bursts(tmp_path: Path) -> None:
    loop = traffic_of(tmp_path, arrival_process="closed loop", max_concurrency="8").requests
    assert (loop.users, len(loop)) == (8, 80)
    burst = traffic_of(tmp_path, request_rate_rps="inf", n_requests="12").requests
    assert (burst.users, burst.arrival_s.tolist()) == (None, [0.0] * 12)
    with pytest.raises(CannotPredictError, match="closed loop without max_concurrency"):
        traffic_of(tmp_path, arrival_process="closed loop")
    with pytest.raises(CannotPredictError, match="all requests at once, expected n_requests"):
        traffic_of(tmp_path, request_rate_rps="inf")


def test_without_lengths_or_a_file_there_is_no_prediction(tmp_path: Path) -> None:
    with pytest.raises(CannotPredictError, match="no length of the outputs, expected osl_mean"):
        traffic_of(tmp_path, osl_spec="")
    planned = plan_traffic(Run("a", (row_of(run("a", per_request_file="no.csv")),)), tmp_path)
    assert planned.is_random
    assert "requests are drawn from the description instead" in planned.notes[0]


def test_clients_ask_for_greedy_or_leave_it_to_the_server() -> None:
    llama = "meta-llama/Llama-3.1-8B-Instruct"

    def sampling(version: str = "0.11.0", **cells: str) -> str | None:
        return engine_of(model=llama, engine_version=version, **cells).sampling

    assert sampling(notes="vllm bench serve, random") == "greedy"
    assert sampling(notes="vLLM benchmark_serving.py") == "greedy"
    assert sampling("0.15.1", notes="vllm bench serve, random") == "top_p"
    assert sampling(
        notes="vllm bench serve --temperature 0.7", sampling="temperature 0.7, top_p 1"
    ) == ("temperature")
    assert sampling(notes="vllm bench serve", sampling="default") == "top_p"
    assert sampling(workload="guidellm sweep") == "top_p"
    assert sampling() == "greedy"
    assert sampling(workload="unlike guidellm's") == "greedy"


def test_what_stands_before_replicas() -> None:
    def router(**cells: str) -> str:
        row = row_of(run("a", dp_replicas="2", n_gpus="2", **cells))
        return setup_of(row, 1000).cluster.router

    assert router() == "round_robin"
    assert router(notes="k8s service round-robin for replicas") == "random"
    assert router(notes="random input lengths") == "round_robin"
    assert router(workload="behind a least-requests balancer") == "least_requests"
