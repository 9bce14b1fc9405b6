"""What a version of vLLM does by default on one GPU: rows of ``engines.yaml``, looked up."""

from typing import Literal

from hardware.engines.table import Tiers, vllm
from hardware.engines.versions import Version, version_key
from hardware.gpu import Gpu
from model.dataclass import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDefaults:
    """Defaults of ``vllm serve`` of one version on one GPU, under vLLM's names."""

    version: str
    generation: str
    """v0 or v1."""
    max_num_seqs: int
    chunk_tokens: int
    """``max_num_batched_tokens`` where prompts are cut."""
    whole_prompt_tokens: int
    """The same where they are not: this, or max_model_len if that is more."""
    chunked_prefill_from_tokens: int
    """Prompts are cut with a ``max_model_len`` above this."""
    enable_prefix_caching: bool
    gpu_memory_utilization: float
    async_scheduling: bool
    scheduler_reserve_full_isl: bool
    watermark: float
    """Share of the blocks."""
    null_block: bool
    """One of the pool is never given out."""
    moe_backend: str | None
    """Whose kernels compute experts in fp8 blocks; None: the fastest that was measured."""
    long_prefill_limits_alone: bool
    """Whether ``long_prefill_token_threshold`` limits a request that is alone, too."""
    reuse_unhashed_first: bool
    """A free block that nobody can find is taken before all others."""
    prefix_cache_retention_interval: int | Literal["dense"]
    """Tokens between what is kept of windows; 0: only where hits are expected to end."""


def newest_version() -> str:
    """Return the newest version of vLLM whose defaults are known."""
    return vllm().newest


def takes_over_kv_fp8(version: str | None, method: str | None) -> bool:
    """Return whether an engine keeps its KV cache in fp8 because a checkpoint asks for it.

    Args:
        version: of the engine; None: the newest.
        method: vLLM's name of the checkpoint's quantization.
    """
    known = vllm().defaults.checkpoint_kv_dtype.at(version_key(version or newest_version()))
    return bool(known) and (method or "").startswith(known)


def check_version(version: str) -> str:
    """Return a version in its shortest form: digits and dots.

    Raises:
        ValueError: not a version, or one beyond those that are modelled.
    """
    text, table = version.strip().lower().removeprefix("v"), vllm()
    key = version_key(text)
    expected = f"expected one of vLLM from '{table.oldest}' to '{table.newest}'"
    if len(key) < 2 or ".".join(map(str, key)) != text:
        raise ValueError(f"{expected}, such as '{table.newest}'")
    if key[:2] < version_key(table.oldest):
        raise ValueError(f"not modelled, {expected}")
    if key[:2] > version_key(table.newest):
        raise ValueError(f"newer than what is modelled, {expected}: try the newest of them")
    return text


def engine_defaults(version: str, gpu: Gpu) -> EngineDefaults:
    """Return the defaults of a version on a GPU; without numbers in it, the newest's.

    Tiers go by the memory that the driver offers and by words of the GPU's name, as vLLM does it.
    """
    text = version if version_key(version) else newest_version()
    at, rows = version_key(text), vllm().defaults
    return EngineDefaults(
        version=text,
        generation=rows.generation.at(at),
        max_num_seqs=_of_gpu(rows.max_num_seqs.at(at), gpu),
        chunk_tokens=_of_gpu(rows.chunk_tokens.at(at), gpu),
        whole_prompt_tokens=rows.whole_prompt_tokens.at(at),
        chunked_prefill_from_tokens=rows.chunked_prefill_from_tokens.at(at),
        enable_prefix_caching=rows.enable_prefix_caching.at(at),
        gpu_memory_utilization=rows.gpu_memory_utilization.at(at),
        async_scheduling=rows.async_scheduling.at(at),
        scheduler_reserve_full_isl=rows.scheduler_reserve_full_isl.at(at),
        watermark=rows.watermark.at(at),
        null_block=rows.null_block.at(at),
        moe_backend=rows.moe_backend.at(at),
        long_prefill_limits_alone=rows.long_prefill_limits_alone.at(at),
        reuse_unhashed_first=rows.reuse_unhashed_first.at(at),
        prefix_cache_retention_interval=rows.prefix_cache_retention_interval.at(at),
    )


def nearest_version(version: Version | None) -> str:
    """Return a version as text, or the nearest that is modelled; the newest for None."""
    table = vllm()
    if not version or version[:2] > version_key(table.newest):
        return table.newest
    return table.oldest if version[:2] < version_key(table.oldest) else ".".join(map(str, version))


def _of_gpu(tiers: Tiers, gpu: Gpu) -> int:
    """The first tier that holds for a GPU; the last one holds for all."""
    for tier in tiers:
        large = gpu.memory_bytes >= tier.from_gib * GIB
        named = not tier.only or gpu.is_one_of(tier.only)
        if large and named and not gpu.is_one_of(tier.unless):
            return tier.take
    raise ValueError(f"no tier of {tiers} holds for gpu {gpu.name}")
