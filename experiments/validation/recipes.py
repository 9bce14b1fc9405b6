"""What the public benchmark InferenceX sets of vLLM beside the model, by model, GPU and version.

Its recipes are scripts (github.com/SemiAnalysisAI/InferenceX, benchmarks/single_node, as they were
when those versions were measured); here stands what a prediction depends on.
"""

import re
from dataclasses import replace
from typing import NamedTuple

from experiments.validation.clients import is_inferencex
from experiments.validation.lengths import LengthLaw
from experiments.validation.rows import RunRow
from experiments.validation.traffic import Plan
from hardware.engines.versions import Version
from model.quantization.scheme import MXFP4_FP8, MXFP4_MARLIN, MXFP4_ONLY
from model.spec import DecoderSpec


class Recipe(NamedTuple):
    """Settings of the runs of some models on some GPUs."""

    models: str
    """Pattern in the model's name."""
    gpus: str
    """Pattern in the GPU's catalogue name."""
    since: Version
    """First version that was served so."""
    settings: dict[str, object]
    """Under vLLM's names; ``budget_of_isl``: max_num_batched_tokens is so many prompts."""


MODEL_TOKENS = 10_240
"""Their max_model_len, as far as the model goes."""
COLUMNS = {"gpu_memory_utilization": "gpu_mem_util", "enable_prefix_caching": "prefix_caching"}
"""Of a table of runs, where they have another name than the engine's settings."""
CHUNKS: dict[str, object] = {"max_num_batched_tokens": 8192, "async_scheduling": True}
DECODES: dict[str, object] = {"cudagraph_mode": "FULL_DECODE_ONLY"}
FUSED: dict[str, object] = {"fuse_allreduce_rms": True}
"""``enable_fi_allreduce_fusion`` before vLLM 0.12; the default since 0.17."""
FP8_CACHE: dict[str, object] = {"kv_cache_dtype": "fp8"}
GRAPHS: dict[str, object] = {"max_cudagraph_capture_size": 2048, "stream_interval": 20}
TRITON_RANKS: dict[str, object] = {"moe_backend": "triton", "enable_expert_parallel": True}
"""VLLM_USE_FLASHINFER_MOE_FP8=0, VLLM_MOE_USE_DEEP_GEMM=0, and experts always dealt whole."""
LARGE_STEPS: dict[str, object] = {
    "gpu_memory_utilization": 0.95,
    "max_num_seqs": 512,
    "max_num_batched_tokens": 32768,
}
FIRST: Version = (0,)

RECIPES = (
    Recipe("gpt-oss", "b200", FIRST, CHUNKS | FP8_CACHE | GRAPHS | FUSED | {"max_num_seqs": 512}),
    Recipe("gpt-oss", "b300", FIRST, CHUNKS | FP8_CACHE | GRAPHS | {"max_num_seqs": 512}),
    Recipe("gpt-oss", "h100|h200", FIRST, CHUNKS | GRAPHS),
    Recipe("kimi-k2", "", FIRST, {"gpu_memory_utilization": 0.95}),
    Recipe("minimax-m3", "b200|b300", FIRST, FP8_CACHE | GRAPHS | {"budget_of_isl": 2}),
    Recipe("minimax-m3", "", FIRST, {"budget_of_isl": 2}),
    Recipe("minimax-m2", "b200|b300", (0, 19), FP8_CACHE | GRAPHS | {"budget_of_isl": 2}),
    Recipe("minimax-m2", "h200", (0, 20), FP8_CACHE | LARGE_STEPS),
    Recipe("minimax-m2", "b200", FIRST, TRITON_RANKS | {"gpu_memory_utilization": 0.95}),
    Recipe("minimax-m2", "b300|h200", FIRST, {"gpu_memory_utilization": 0.95}),
    Recipe("minimax-m2", "h100", FIRST, {"gpu_memory_utilization": 0.9}),
    Recipe("deepseek-v4", "", FIRST, FP8_CACHE),
    Recipe("llama", "b200", FIRST, CHUNKS | FP8_CACHE | DECODES | FUSED | {"max_num_seqs": 512}),
    Recipe("llama", "", FIRST, CHUNKS | FP8_CACHE),
)
"""The first that fits counts."""
SEATED = "gpt-oss|kimi|llama"
"""Models whose recipes set max_num_seqs to the client's concurrency."""


def recipe_of(model: str, gpu: str, version: Version | None) -> Recipe | None:
    """Return the recipe of a model on a GPU; None where none is known."""
    return next(
        (
            each
            for each in RECIPES
            if re.search(each.models, model.lower())
            and re.search(each.gpus, gpu)
            and (version is None or version >= each.since)
        ),
        None,
    )


def with_its_inputs(spec: DecoderSpec, row: RunRow, gpu: str) -> DecoderSpec:
    """Return a model whose experts in MXFP4 have the kernels that the recipe tells.

    VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8 on Blackwell, VLLM_MXFP4_USE_MARLIN on Hopper.
    """
    if not is_inferencex(row) or "gpt-oss" not in row.model.lower():
        return spec
    instead = MXFP4_FP8 if re.search("b200|b300", gpu) else MXFP4_MARLIN
    weights = spec.checkpoint.weights.map({MXFP4_ONLY: instead})
    return replace(spec, checkpoint=replace(spec.checkpoint, weights=weights))


def settings_of(
    model: str, gpu: str, version: Version | None, prompt_tokens: float | None, users: int | None
) -> dict[str, object]:
    """Return what the recipe of a model on a GPU sets; nothing where none is known.

    Args:
        model: as a row has it.
        gpu: catalogue name.
        version: of vLLM.
        prompt_tokens: mean of the prompts, which some budgets follow.
        users: of the closed loop.
    """
    recipe = recipe_of(model, gpu, version)
    if recipe is None:
        return {}
    settings = dict(recipe.settings)
    times = settings.pop("budget_of_isl", None)
    if isinstance(times, int) and prompt_tokens:
        settings["max_num_batched_tokens"] = times * round(prompt_tokens)
    if users and re.search(SEATED, model.lower()):
        settings.setdefault("max_num_seqs", users)
    return settings


def inferencex(
    row: RunRow, spec: DecoderSpec, gpu: str, version: Version | None, notes: list[str]
) -> dict[str, object]:
    """Return what InferenceX sets and a row does not say; nothing for other workloads."""
    if not is_inferencex(row):
        return {}
    recipe: dict[str, object] = {
        "enable_prefix_caching": False,
        "max_model_len": min(MODEL_TOKENS, spec.max_model_len),
        **settings_of(row.model, gpu, version, row.isl_mean, row.max_concurrency),
    }
    if "16" in (row.precision or ""):
        recipe.pop("kv_cache_dtype", None)
    taken = {
        key: value
        for key, value in recipe.items()
        if getattr(row, COLUMNS.get(key, key), None) is None
    }
    notes.append(f"InferenceX's recipe: {', '.join(f'{k} {v}' for k, v in taken.items())}")
    return taken


SHORTER = 0.2
"""By how much lengths may be shorter than the longest (``random_range_ratio`` 0.8)."""


def with_its_lengths(plan: Plan, row: RunRow) -> Plan:
    """Return the requests of InferenceX: what it calls a length is the longest that it asks for.

    Its client (github.com/kimbochen/bench_serving, ``sample_random_requests``) draws prompts and
    outputs evenly between a share of that and the whole.
    """
    if plan.laws is None or not is_inferencex(row):
        return plan
    prompts, outputs = (_up_to(law) for law in plan.laws)
    note = "lengths: up to what is stated, as InferenceX draws them"
    return replace(plan, laws=(prompts, outputs), notes=(*plan.notes, note))


def _up_to(law: LengthLaw) -> LengthLaw:
    """The law whose longest is the given one's mean, where lengths are not a trace's."""
    if law.cv or law.distinct:
        return law
    half = (law.jitter or SHORTER) / 2
    return replace(law, mean=law.mean * (1 - half), jitter=half / (1 - half))
