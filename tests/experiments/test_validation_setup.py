"""Which engine, prices and requests a row of a table stands for."""

from pathlib import Path

import pytest

from experiments.validation.calibrations import choose_calibration
from experiments.validation.levels import API, HOST, LEVELS, engine_at, prices_at
from experiments.validation.recipes import settings_of, with_its_lengths
from experiments.validation.rows import Run, row_of
from experiments.validation.settings import setup_of
from experiments.validation.traffic import Traffic, plan_traffic
from hardware.calibration import DATASHEET
from hardware.engines.constants import engine_calibration
from hardware.gpu import Gpu, load_gpu
from model.quantization.scheme import (
    FP8_BLOCKS,
    FP8_CHANNEL,
    MXFP4_FP8,
    MXFP4_MARLIN,
    MXFP4_ONLY,
)
from model.quantization.weights import Weights
from sim.settings.engine_config import EngineConfig
from tests.experiments.measured_runs import run


def engine_of(**cells: str) -> EngineConfig:
    return setup_of(row_of(run("a", **cells)), 1000).engine


def traffic_of(folder: Path, seed: int = 0, **cells: str) -> Traffic:
    return plan_traffic(Run("a", (row_of(run("a", **cells)),)), folder).draw(seed)


def test_settings_that_are_given_are_taken() -> None:
    setup = setup_of(row_of(run("a", kv_blocks="7462.0", block_size="32", gpu_mem_util="0.97")), 9)
    engine = setup.engine
    assert (setup.spec.name, setup.gpu.name) == ("llama-2-7b", "h100-sxm")
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (128, 2048)
    assert (engine.num_gpu_blocks, engine.block_size) == (7462, 32)
    assert engine.gpu_memory_utilization == 0.97
    assert (engine.scheduler, engine.enable_prefix_caching) == ("chunked_prefill", True)
    assert setup.notes == ("sampling: top_p, by vllm bench serve and vLLM 0.15.1 for llama-2-7b",)


@pytest.mark.parametrize(
    ("gpu", "version", "scheduler", "tokens", "seqs"),
    [
        ("H100-80GB-SXM", "0.15.1", "chunked_prefill", 8192, 1024),
        ("A100-80GB-SXM", "~2025-05 (vllm 0.8.x)", "chunked_prefill", 2048, 256),
        ("NVIDIA L40S", "0.9.2", "chunked_prefill", 2048, 256),
        ("h200_sxm", "", "chunked_prefill", 8192, 1024),
        ("H100-80GB-SXM", "0.6.0", "prefill_first", 4096, 256),
    ],
)
def test_defaults_of_versions_and_gpus(
    gpu: str, version: str, scheduler: str, tokens: int, seqs: int
) -> None:
    empty = dict.fromkeys(
        ("max_num_seqs", "max_num_batched_tokens", "chunked_prefill", "prefix_caching"), ""
    )
    setup = setup_of(row_of(run("a", **empty | {"gpu": gpu, "engine_version": version})), 9)
    engine = setup.engine
    assert (engine.scheduler, engine.max_num_batched_tokens, engine.max_num_seqs) == (
        scheduler, tokens, seqs,
    )  # fmt: skip
    assert engine.enable_prefix_caching == (scheduler == "chunked_prefill")
    assert any(note.startswith("max_num_batched_tokens: ") for note in setup.notes)


def test_graphs_and_planning_ahead_are_said() -> None:
    assert engine_of().cudagraph_mode == "auto"
    assert engine_of(cudagraph_mode="full_decode_only").cudagraph_mode == "FULL_DECODE_ONLY"
    assert engine_of(cudagraph_mode="FULL_AND_PIECEWISE").cudagraph_mode == "auto"
    assert engine_of(cudagraph_mode="CUDAGraphMode.NONE").enforce_eager
    with pytest.raises(ValueError, match="cudagraph_mode = 'some' is not known"):
        engine_of(cudagraph_mode="some")
    told = {word: engine_of(async_scheduling=word).async_scheduling for word in ("on", "off")}
    assert told == {"on": True, "off": False}


def test_v0_cuts_prompts_of_long_contexts_only() -> None:
    old = {
        "engine_version": "0.6.0",
        "chunked_prefill": "default (off unless ctx>32k)",
        "max_num_batched_tokens": "",
        "model": "meta-llama/Llama-3.1-70B",
        "tp": "4",
    }
    assert engine_of(**old).scheduler == "prefill_first"
    long = engine_of(**old, max_model_len="65536")
    assert (long.scheduler, long.max_num_batched_tokens) == ("chunked_prefill", 512)
    assert engine_of(**old | {"chunked_prefill": "on"}).scheduler == "chunked_prefill"


def test_v1_mixes_prompts_and_decodes_without_chunked_prefill_too() -> None:
    whole = {"engine_version": "0.11.0", "chunked_prefill": "off", "max_model_len": "512"}
    engine = engine_of(**whole, max_num_batched_tokens="")
    assert (engine.scheduler, engine.max_num_batched_tokens) == ("chunked_prefill", 2048)
    assert engine.enable_prefix_caching
    old = engine_of(**whole | {"engine_version": "0.6.0"})
    assert old.scheduler == "prefill_first"


@pytest.mark.parametrize(
    ("words", "gpu", "dtype", "quantization"),
    [
        ("fp16/bf16", "H100", "auto", "auto"),
        ("FP16", "H100", "float16", "auto"),
        ("bf16", "H100", "bfloat16", "auto"),
        ("FP8", "H100", "auto", "fp8"),
        ("FP8", "A100", "auto", "w8a16"),
        ("fp4", "b200_sxm", "auto", "fp4"),
        ("nvfp4", "h200_sxm", "auto", "int4"),
        ("awq", "L40S", "auto", "int4"),
        ("w8a8", "A100", "auto", "int8"),
    ],
)
def test_precisions_in_words(words: str, gpu: str, dtype: str, quantization: str) -> None:
    engine = engine_of(precision=words, gpu=gpu)
    assert (engine.dtype, engine.quantization) == (dtype, quantization)


def test_an_empty_precision_is_that_of_the_name() -> None:
    scout = "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic"
    setup = setup_of(row_of(run("a", precision="", model=scout)), 1000)
    assert setup.spec.checkpoint.weights.main == FP8_CHANNEL
    assert setup.engine.quantization == "auto"
    assert engine_of(precision="").quantization == "auto"


def test_inferencex_brings_its_own_recipe() -> None:
    empty = dict.fromkeys(("max_num_seqs", "max_num_batched_tokens"), "")
    loop = {"arrival_process": "closed loop", "max_concurrency": "16.0", "precision": "fp8"}
    cells = {"workload": "random fixed (InferenceX)", **loop, **empty}
    engine = engine_of(**cells)
    assert (engine.kv_cache_dtype, engine.max_num_batched_tokens, engine.max_num_seqs) == (
        "fp8", 8192, 16,
    )  # fmt: skip
    assert engine.sampling == "greedy"
    assert engine_of(**cells, engine_version="0.11.0").async_scheduling
    assert not engine_of(engine_version="0.11.0").async_scheduling
    assert engine_of(**cells | {"kv_cache_dtype": "auto"}).kv_cache_dtype == "auto"
    for other in (
        {"workload": "ShareGPT, not the InferenceX recipe"},
        {"workload": "lengths other than InferenceX's"},
        {"arrival_process": "poisson"},
    ):
        assert engine_of(**cells | other).max_num_seqs == 1024
    assert engine_of(**cells | {"precision": "bf16"}).kv_cache_dtype == "auto"


def test_words_that_mean_the_published_checkpoint_keep_its_numbers() -> None:
    def weights_of(model: str, precision: str, **cells: str) -> Weights:
        row = row_of(run("a", model=model, precision=precision, tp="2", **cells))
        return setup_of(row, 1000).spec.checkpoint.weights

    oss = "openai/gpt-oss-120b"
    assert weights_of(oss, "fp4").schemes() == (MXFP4_ONLY,)
    assert not weights_of(oss, "bf16").schemes()
    assert weights_of("MiniMaxAI/MiniMax-M2.5", "fp8", gpu="H200").main == FP8_BLOCKS
    loop = {"arrival_process": "closed loop", "max_concurrency": "16", "workload": "InferenceX"}
    assert weights_of(oss, "fp4", gpu="B200", **loop).schemes() == (MXFP4_FP8,)
    assert weights_of(oss, "fp4", gpu="H100-80GB-SXM", **loop).schemes() == (MXFP4_MARLIN,)


def test_experts_whose_blocks_do_not_divide_are_dealt_whole() -> None:
    """Of 1,536 columns 8 ranks would have 192, one and a half blocks of 128."""
    cells = {"model": "MiniMaxAI/MiniMax-M2.5", "precision": "fp8", "gpu": "H200", "n_gpus": ""}
    assert engine_of(**cells, tp="8").enable_expert_parallel
    assert not engine_of(**cells, tp="4").enable_expert_parallel


@pytest.mark.parametrize(
    ("model", "gpu", "version", "expected"),
    [
        ("openai/gpt-oss-120b", "b200-sxm", (0, 15), ("fp8", 8192, 512)),
        ("openai/gpt-oss-120b", "h100-sxm", (0, 18), (None, 8192, 16)),
        ("moonshotai/Kimi-K2.5", "h200-sxm", (0, 16), (None, None, 16)),
        ("MiniMaxAI/MiniMax-M2.5", "b200-sxm", (0, 17), (None, None, None)),
        ("MiniMaxAI/MiniMax-M2.5", "h200-sxm", (0, 21), ("fp8", 32768, 512)),
        ("MiniMaxAI/MiniMax-M2.5", "b200-sxm", (0, 19), ("fp8", 2048, None)),
        ("Qwen/Qwen3-8B", "h100-sxm", (0, 19), (None, None, None)),
    ],
)
def test_recipes_of_inferencex(
    model: str, gpu: str, version: tuple[int, ...], expected: tuple[object, ...]
) -> None:
    found = settings_of(model, gpu, version, 1024.0, 16)
    keys = ("kv_cache_dtype", "max_num_batched_tokens", "max_num_seqs")
    assert tuple(found.get(key) for key in keys) == expected


def test_a_length_of_inferencex_is_its_longest(tmp_path: Path) -> None:
    def drawn(**cells: str) -> tuple[int, int]:
        loop = {"arrival_process": "closed loop", "max_concurrency": "64", "n_requests": "4000"}
        row = row_of(run("a", **loop | {"isl_mean": "1000", "isl_spec": "1000"} | cells))
        planned = plan_traffic(Run("a", (row,)), tmp_path)
        tokens = with_its_lengths(planned, row).draw(0).requests.prompt_tokens
        return int(tokens.min()), int(tokens.max())

    assert drawn(workload="InferenceX") == (800, 1000)
    assert drawn(workload="random fixed (InferenceX: +-20% len jitter)") == (800, 1000)
    assert drawn(workload="random fixed (+-20% len jitter)") == (800, 1200)
    assert drawn(workload="random fixed") == (1000, 1000)


def test_a_recipe_may_choose_the_experts_kernels() -> None:
    """MiniMax-M2.5 on B200 was served by Triton, with whole experts, before 0.19."""
    for version, expected in (((0, 17), ("triton", True)), ((0, 19), (None, None))):
        found = settings_of("MiniMaxAI/MiniMax-M2.5", "b200-sxm", version, 1024.0, 16)
        assert (found.get("moe_backend"), found.get("enable_expert_parallel")) == expected


def test_an_empty_tp_is_the_smallest_that_fits() -> None:
    def tp_of(**cells: str) -> int:
        row = row_of(run("a", **{"tp": "", "n_gpus": "", "max_num_batched_tokens": "", **cells}))
        return setup_of(row, 100).cluster.tensor_parallel_size

    assert tp_of() == 1
    assert tp_of(model="meta-llama/Llama-3.1-70B-Instruct") == 2  # 141 GB, an H100 holds 77
    assert tp_of(model="meta-llama/Llama-3.1-70B-Instruct", gpu="L40S") == 4
    assert tp_of(n_gpus="4") == 4
    assert tp_of(n_gpus="4", dp_replicas="2") == 2
    with pytest.raises(ValueError, match=r"tp is empty, and llama-3.1-405b does not fit on 8 l40s"):
        tp_of(model="meta-llama/Llama-3.1-405B", gpu="L40S")


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("H100-80GB (cluster default)", "h100-sxm"),
        ("RTX4090-24GB", "rtx-4090"),
        ("RTX 4090 24 GB", "rtx-4090"),
        ("L40S-48GB (PCIe)", "l40s"),
        ("A100 (40GB)", "a100-40gb-sxm"),
        ("H100 (PCIe)", "h100-pcie"),
        ("RTX4090-48GB", None),
    ],
)
def test_names_of_gpus_with_memory_and_remarks(name: str, gpu: str | None) -> None:
    row = row_of(run("a", gpu=name))
    if gpu is None:
        with pytest.raises(ValueError, match="RTX4090-48GB"):
            setup_of(row, 100)
    else:
        assert setup_of(row, 100).gpu.name == gpu


def test_sampling_is_said_or_the_models_own() -> None:
    llama, mistral = "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"
    assert engine_of(model=llama).sampling == "top_p"
    assert engine_of(model=mistral).sampling == "temperature"
    assert engine_of(model=llama, engine_version="0.6.3").sampling == "greedy"
    assert engine_of(model=llama, sampling="temperature=0").sampling == "greedy"
    assert engine_of(model=llama, sampling="default").sampling == "top_p"
    assert engine_of(model=mistral, sampling="temperature 0.7, top_k=20").sampling == "top_p"
    with pytest.raises(ValueError, match="sampling = 'beam search' is not known"):
        engine_of(model=llama, sampling="beam search")


def test_stages_of_a_pipeline_share_the_gpus() -> None:
    setup = setup_of(row_of(run("a", pp="2.0", tp="", n_gpus="4", engine_version="0.15.1")), 9)
    cluster = setup.cluster
    assert (cluster.tensor_parallel_size, cluster.pipeline_parallel_size) == (2, 2)
    assert cluster.gpus == 4
    assert setup.engine.async_scheduling  # held: a request is in one step at a time


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"engine": "trtllm"}, "engine = 'trtllm' is not modelled, expected vllm"),
        ({"mode": "disagg"}, "mode = 'disagg' is not modelled, expected agg, or disagg with"),
        ({"mode": "disagg 0P1D"}, "expected at least 1P1D"),
        ({"mode": "disagg 2P1D", "n_gpus": "2"}, "is 3 GPUs, but n_gpus = 2"),
        ({"pp": "2.0", "engine_version": "0.6.3"}, "pipeline_parallel_size = 2 with vLLM 0.6"),
        ({"speculative": "eagle3 k=3"}, "speculative = 'eagle3 k=3' is not described.*MTP k=1"),
        ({"lora": "yes"}, "lora = 'yes' is not modelled, expected a run without adapters"),
        ({"precision": "ternary"}, "precision = 'ternary' is not known, expected bf16"),
        ({"model": "Qwen/Qwen3-15B"}, "model = 'Qwen/Qwen3-15B' is neither in the catalogue"),
        ({"gpu": "P100"}, "gpu = 'P100' is not in the catalogue.*like: NAME"),
    ],
)
def test_what_is_not_modelled_says_why(cells: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        engine_of(**cells)


def test_long_contexts_of_chunked_attention_are_told() -> None:
    row = row_of(run("a", model="meta-llama/Llama-4-Scout-17B-16E-Instruct", tp="4"))
    assert not any("attend" in note for note in setup_of(row, 8192).notes)
    assert any("most layers of llama-4-scout" in note for note in setup_of(row, 8193).notes)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ({"isl_mean": "8192", "tp": "8"}, "first tokens may be up to 15% too late"),
        ({"n_failed": "3"}, "become up to 14% slower within minutes of overload"),
    ],
)
def test_what_servers_show_and_nothing_here_has_is_told(cells: dict[str, str], told: str) -> None:
    notes = setup_of(row_of(run("a", **cells)), 100).notes
    assert any(told in note for note in notes)
    assert not any(told in note for note in setup_of(row_of(run("a")), 100).notes)


def test_gpus_of_all_replicas() -> None:
    setup = setup_of(row_of(run("a", n_gpus="8", dp_replicas="4", tp="")), 9)
    assert (setup.cluster.tensor_parallel_size, setup.cluster.replicas) == (2, 4)


def test_calibrations_follow_gpu_and_version() -> None:
    old, about = choose_calibration(load_gpu("h100-sxm"), (0, 6, 0))
    assert old == engine_calibration("vllm-0.6", load_gpu("h100-sxm"))
    assert about == f"calibration {old.name}"
    assert choose_calibration(load_gpu("h100-sxm"), None)[0] == engine_calibration(
        "vllm", load_gpu("h100-sxm")
    )
    borrowed, about = choose_calibration(load_gpu("a100-80gb-pcie"), (0, 15, 1))
    assert borrowed.kernels is not None
    assert about.startswith("BORROWED KERNELS: ")
    unknown = load_gpu("h100-sxm").model_copy(update={"name": "prototype"})
    bare, about = choose_calibration(Gpu.model_validate(unknown.model_dump()), (0, 15, 1))
    assert bare == DATASHEET
    assert about.startswith("NOT CALIBRATED: ")


def test_levels_switch_one_thing_after_the_other() -> None:
    full = engine_calibration("vllm", load_gpu("h100-sxm"))
    engine = EngineConfig(enable_prefix_caching=True)
    prices = [prices_at(level, full) for level in LEVELS]
    assert prices[0] == DATASHEET
    assert prices[1].kernels == full.kernels
    assert [getattr(prices[1], name) for name in HOST] == [0.0] * len(HOST)
    assert [getattr(prices[2], name) for name in HOST] == [getattr(full, name) for name in HOST]
    assert [getattr(prices[3], name) for name in API] == [0.0] * len(API)
    assert prices[4] == full
    engines = [engine_at(level, engine) for level in LEVELS]
    assert [one.enable_prefix_caching for one in engines] == [False, False, False, True, True]
    assert [one.step_overhead_s for one in engines] == [0.0, 0.0, None, None, None]
