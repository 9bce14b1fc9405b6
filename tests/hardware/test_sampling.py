"""How tokens are drawn by default, and what it costs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.study.calibrations import calibration_of
from hardware.engines.sampling import default_drawing, drawing_s, server_drawing
from hardware.gpu import load_gpu
from hardware.prices.graphs import largest_graph, replayed
from model.sampling import drawing_by_name, drawing_of
from model.spec import CATALOGUE, load_spec
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import build_scenario


@pytest.mark.parametrize(
    ("config", "drawing"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, "top_p"),
        ({"top_k": 20, "repetition_penalty": 1.0}, "top_p"),
        ({"top_k": 20, "repetition_penalty": 1.05}, "penalties"),
        ({"top_p": 1.0, "top_k": 0}, "temperature"),
        ({"temperature": 0, "top_p": 0.9}, "greedy"),
        ({"top_k": 1, "top_p": 0.001}, "greedy"),
        ({"eos_token_id": 2}, "temperature"),
    ],
)
def test_what_a_generation_config_says(config: dict[str, object], drawing: str) -> None:
    assert drawing_of(config) == drawing


def test_names_of_publishers() -> None:
    for name in ("meta-llama/Llama-3.1-70B-Instruct", "llama-2-7b", "Qwen/Qwen3-8B"):
        assert drawing_by_name(name) == "top_p"
    for name in ("codellama-34b", "mixtral-8x7b", "yi-34b", "gpt2", "nobody/knows"):
        assert drawing_by_name(name) == "temperature"
    assert drawing_by_name("Qwen/Qwen2.5-7B-Instruct") == "penalties"


def test_a_folder_says_it_itself(tmp_path: Path) -> None:
    folder = tmp_path / "Llama-3-mine"
    folder.mkdir()
    (folder / "config.json").write_bytes((CATALOGUE / "llama-3-8b.json").read_bytes())
    assert default_drawing(load_spec(folder), "0.15") == "top_p"
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True}))
    assert default_drawing(load_spec(folder), "0.15") == "temperature"


def test_versions() -> None:
    spec = load_spec("llama-3.1-8b")
    assert server_drawing(spec, "0.7.3") == "temperature"
    assert server_drawing(spec, "0.9") == default_drawing(spec, "0.15") == "top_p"
    assert server_drawing(replace(spec, drawing="temperature"), "0.9") == "temperature"
    assert default_drawing(spec, "0.14.1") == "greedy"  # as vLLM's benchmark client asked for
    gpu = load_gpu("h100-sxm")
    for drawing in ("temperature", "greedy"):
        assert not drawing_s(drawing, "0.15", 128_256, gpu, 8).any()
    sort, triton, flashinfer = (
        drawing_s("top_p", version, 131_072, gpu, 512) for version in ("0.15.1", "0.17", "0.33")
    )
    # vLLM pull request 40376, 64 sequences: 1.07, 0.31 and 0.20 ms; 512 ones 6.2 ms.
    for seconds, published_ms in ((sort, 1.07), (triton, 0.31), (flashinfer, 0.20)):
        assert seconds[64] * 1e3 == pytest.approx(published_ms, rel=0.4)
    assert sort[512] * 1e3 == pytest.approx(6.2, rel=0.2)
    assert sort[0] == 0
    # As much slower as memory, or a large cache in front of it.
    for name, ratio in (("a100-80gb-sxm", 3.35 / 2.039), ("a10g", 3.35 / 0.6), ("l40s", 3.35 / 2)):
        slower = drawing_s("top_p", "0.15.1", 131_072, load_gpu(name), 512)
        assert np.diff(slower)[1:] / np.diff(sort)[1:] == pytest.approx(ratio)
    more = drawing_s("penalties", "0.15.1", 131_072, gpu, 512)
    assert (more[1:] > sort[1:]).all()


def test_drawing_is_part_of_a_step() -> None:
    spec, gpu = load_spec("llama-3.1-8b"), load_gpu("h100-sxm")
    prices = calibration_of("vllm-0.15", "h100-sxm")

    def step_s(sampling: str) -> float:
        engine = EngineConfig.model_validate({"version": "0.15", "sampling": sampling})
        cluster = ClusterConfig(gpu="h100-sxm")
        scenario = build_scenario(spec, gpu, cluster, engine, prices)
        return scenario.pool.price.step_s(32, 32_000, ())

    drawn_s = drawing_s("top_p", "0.15", 128_256, gpu, 32)
    assert step_s("top_p") - step_s("greedy") == pytest.approx(drawn_s[32])
    assert step_s("temperature") == step_s("greedy")


def test_small_steps_run_captured_sizes() -> None:
    tokens = replayed(4096, largest_graph(256))
    assert tokens[[0, 1, 3, 5, 8, 9, 250, 257, 512]].tolist() == [0, 1, 4, 8, 8, 16, 256, 272, 512]
    np.testing.assert_array_equal(tokens[513:], np.arange(513, 4097))
    assert replayed(100, largest_graph(4))[[7, 8, 9]].tolist() == [
        8,
        8,
        9,
    ]  # captured up to twice the seats
