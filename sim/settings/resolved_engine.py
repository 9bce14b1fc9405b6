"""An engine's settings with numbers for all that the version, the GPU and the model decide."""

from collections.abc import Mapping
from typing import Any

from hardware.engines.defaults import engine_defaults
from hardware.engines.pipelining import pipelining
from hardware.engines.sampling import default_drawing
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from model.sampling import Drawing
from model.spec import DecoderSpec
from sim.settings.engine_config import (
    DECODES_ALONE,
    WHOLE_PROMPTS_WATERMARK,
    Count,
    EngineConfig,
    SchedulerName,
    _needs_chunks,
    precision_of,
)
from sim.settings.offloading_config import check_offloading
from sim.settings.prefix_caching import RetentionInterval, uncached
from sim.settings.registry import check_policy, policy
from sim.settings.speculative import READS_TARGET, check_speculative


def _check_eager(engine: EngineConfig) -> None:
    """Raise ValueError for what is not modelled without CUDA graphs, or means nothing then."""
    if engine.cudagraph_mode == DECODES_ALONE and engine.speculative is not None:
        raise ValueError(
            f"engine.cudagraph_mode = {DECODES_ALONE} with engine.speculative is not modelled, "
            "expected auto"
        )
    if not engine.enforce_eager:
        return
    if engine.cudagraph_mode == DECODES_ALONE:
        raise ValueError(
            f"engine.cudagraph_mode = {DECODES_ALONE} with engine.enforce_eager: true, expected "
            "auto: there are no CUDA graphs"
        )
    if engine.max_cudagraph_capture_size is not None:
        raise ValueError(
            f"engine.max_cudagraph_capture_size = {engine.max_cudagraph_capture_size} with "
            "engine.enforce_eager: true, expected none: there are no CUDA graphs"
        )
    if engine.speculative is not None:
        raise ValueError(
            "engine.enforce_eager: true with engine.speculative is not modelled, expected false"
        )


def _check_own(engine: EngineConfig, scheduler: str) -> None:
    """Raise ValueError for settings of a scheduler that a version chooses, which has none."""
    try:
        check_policy(scheduler, engine.scheduler_settings)
    except ValueError as error:
        raise ValueError(f"engine.scheduler_settings: {error}") from None


def _check_length(engine: EngineConfig, spec: DecoderSpec) -> None:
    """Raise ValueError if the longest request is longer than what the model allows."""
    given = engine.max_model_len
    if given is not None and given > spec.max_model_len:
        raise ValueError(
            f"engine.max_model_len = {given} is longer than {spec.name} allows, expected at most "
            f"{spec.max_model_len}, which its config gives (positions and rope scaling)"
        )


class ResolvedEngine(EngineConfig):
    """Settings with every default that depends on the version, the GPU or the model."""

    version: str
    scheduler: SchedulerName
    async_scheduling: bool
    max_num_seqs: Count
    max_num_batched_tokens: Count
    long_prefill_limits_alone: bool
    scheduler_reserve_full_isl: bool
    max_model_len: Count
    enable_prefix_caching: bool
    reuse_unhashed_first: bool
    prefix_cache_retention_interval: RetentionInterval
    null_block: bool
    gpu_memory_utilization: float
    watermark: float
    sampling: Drawing


RESOLVED = tuple(ResolvedEngine.__annotations__)
"""Keys that a version, a GPU or a model gives a default."""


def _unites_groups(engine: EngineConfig, spec: DecoderSpec) -> bool:
    """Whether vLLM has no groups of the KV cache, as drafts that read the target's hidden states do
    not go together with chunked attention (``VllmConfig``: "chunked local attention + eagle")."""
    drafts = engine.speculative
    return (
        spec.attention_chunk_tokens is not None
        and drafts is not None
        and drafts.method in READS_TARGET
    )


def resolved(engine: EngineConfig, gpu: Gpu, spec: DecoderSpec, stages: int = 1) -> ResolvedEngine:
    """Return settings with every default filled in; what is given stays.

    ``stages`` are those of its pipeline: asynchronous scheduling depends on them.

    Raises:
        ValueError: a budget below ``max_num_seqs``, a length beyond the model's, or what
            the version's scheduler cannot do.
    """
    if engine.speculative is not None and not engine.speculative.num_speculative_tokens:
        engine = engine.model_copy(update={"speculative": None})
    drafts = engine.speculative is not None
    given = {name: getattr(engine, name) for name in RESOLVED}
    taken = {name: value for name, value in given.items() if value is not None}
    _check_length(engine, spec)
    _check_eager(engine)
    unified = engine.disable_hybrid_kv_cache_manager or _unites_groups(engine, spec)
    taken["disable_hybrid_kv_cache_manager"] = unified
    filled = default_settings(taken, gpu, spec, drafts, stages) | taken
    if engine.speculative is not None and engine.async_scheduling is None:
        filled["async_scheduling"] &= engine.speculative.method != "ngram"
    if stages > 1 and engine.speculative is None:
        quantized = bool(precision_of(engine, spec, gpu).weights.schemes())
        given_async = engine.async_scheduling
        rules = pipelining(spec, stages, filled["version"], quantized, given_async)
        filled["async_scheduling"] = rules.asynchronous
    settings = dict(engine) | filled
    check_speculative(settings, engine.speculative)
    _check_own(engine, filled["scheduler"])
    if stages > 1 and filled["scheduler"] != "chunked_prefill":
        raise ValueError(
            f"cluster.pipeline_parallel_size = {stages} with engine.scheduler: "
            f"{filled['scheduler']}, expected chunked_prefill: stages are modelled as in vLLM v1"
        )
    for name in ("enable_prefix_caching", "async_scheduling"):
        if filled[name] and not policy(filled["scheduler"]).cuts_prompts:
            which = f"{filled['scheduler']} (vLLM {filled['version']}'s)"
            raise ValueError(f"engine.{_needs_chunks(name, which)}")
    if engine.enable_expert_parallel and not spec.num_experts:
        raise ValueError(
            f"engine.enable_expert_parallel: true with {spec.name}, which has no experts: not "
            "supported by vLLM, expected a mixture of experts"
        )
    why = uncached(spec, filled["version"], unified, drafts, stages)
    if filled["enable_prefix_caching"] and why is not None:
        raise ValueError(
            f"engine.enable_prefix_caching: true with {spec.name}, expected false: {why}"
        )
    if engine.kv_offloading_size is not None:
        check_offloading(filled, drafts=engine.speculative is not None)
    budget, seats = filled["max_num_batched_tokens"], filled["max_num_seqs"]
    if budget < seats:
        raise ValueError(
            f"engine.max_num_batched_tokens = {budget} is smaller than engine.max_num_seqs = "
            f"{seats}, expected at least one token per sequence: "
            f"set engine.max_num_batched_tokens: {seats} or more"
        )
    # All of it was checked, here, where the study was read or with the table of versions.
    return ResolvedEngine.model_construct(**settings)


def default_settings(
    given: Mapping[str, Any], gpu: Gpu, spec: DecoderSpec, drafts: bool = False, stages: int = 1
) -> dict[str, Any]:
    """Return the default of every key of ``RESOLVED``, as far as others are given.

    As in vLLM the budget is no larger than what all seats could use, and a smaller budget that is
    given takes seats away.
    """
    known = engine_defaults(given.get("version", ""), gpu)
    length = given.get("max_model_len", spec.max_model_len)
    cut = length > known.chunked_prefill_from_tokens
    scheduler = given.get("scheduler", "chunked_prefill" if cut else "prefill_first")
    chunked = policy(scheduler).cuts_prompts
    seats = min(known.max_num_seqs, given.get("max_num_batched_tokens", known.max_num_seqs))
    all_seats = given.get("max_num_seqs", seats)
    unified = bool(given.get("disable_hybrid_kv_cache_manager"))
    cached = uncached(spec, known.version, unified, drafts, stages) is None
    on = known.enable_prefix_caching
    if any(cache.states for cache in spec.caches):
        on = vllm().defaults.caches_states.at(version_key(known.version))
    budget = known.chunk_tokens if chunked else max(length, known.whole_prompt_tokens)
    if chunked:
        budget = min(budget, all_seats * length)
    return {
        "version": known.version,
        "scheduler": scheduler,
        "async_scheduling": known.async_scheduling and chunked,
        "max_num_seqs": seats,
        "max_num_batched_tokens": max(budget, all_seats),
        "long_prefill_limits_alone": known.long_prefill_limits_alone or not chunked,
        "scheduler_reserve_full_isl": known.scheduler_reserve_full_isl and chunked,
        "max_model_len": length,
        "enable_prefix_caching": on and chunked and cached,
        "prefix_cache_retention_interval": known.prefix_cache_retention_interval,
        "reuse_unhashed_first": known.reuse_unhashed_first and chunked,
        "null_block": known.null_block and chunked,
        "gpu_memory_utilization": known.gpu_memory_utilization,
        "watermark": known.watermark if chunked else WHOLE_PROMPTS_WATERMARK,
        "sampling": default_drawing(spec, known.version),
    }
