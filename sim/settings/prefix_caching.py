"""Prefix caching where layers keep different tokens: what is modelled, and what windows keep."""

from typing import Annotated, Final, Literal

from pydantic import Field

from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.memory.kv_groups import several_groups
from hardware.memory.kv_layout import KvLayout
from model.caches import COMPRESSED
from model.spec import DecoderSpec
from sim.engine.caches.block_tables import DENSE

STATES_SINCE: Final = (0, 27)
"""Version of vLLM from which on what is kept of states is modelled: earlier ones lose sight of some
while a request runs (``MambaManager.remove_skipped_blocks``)."""

RetentionInterval = Annotated[int, Field(ge=0, le=10**9)] | Literal["dense"]
"""``engine.prefix_cache_retention_interval``; vLLM's null is ``dense``."""


def uncached(
    spec: DecoderSpec, version: str, unified: bool, drafts: bool = False, stages: int = 1
) -> str | None:
    """Return why prefix caching is not there for a model; None: it is.

    Args:
        spec: the model.
        version: of vLLM.
        unified: ``disable_hybrid_kv_cache_manager``: layers with a window keep everything.
        drafts: whether drafts are made and verified.
        stages: of a pipeline.
    """
    if not several_groups(spec, version, unified):
        return None
    if any(cache.states for cache in spec.caches):
        if stages > 1:
            return "what prompts share is not modelled where layers keep a state behind stages"
        return _uncached_states(spec, version, drafts)
    if any(cache.kind == COMPRESSED for cache in spec.caches):
        return "what prompts share is not modelled where entries stand for several tokens"
    whole = "; with engine.disable_hybrid_kv_cache_manager: true windows keep everything"
    windows = {cache.window for cache in spec.caches if cache.kept and cache.per_entry.whole}
    if vllm().defaults.finds_any_groups.at(version_key(version)):
        return None
    if len(windows) == 2 and None in windows:
        return None
    return f"vLLM {version} has it for full attention beside one kind of windows alone{whole}"


def _uncached_states(spec: DecoderSpec, version: str, drafts: bool) -> str | None:
    """The same of layers with a state, whose states are kept where blocks end (``align``)."""
    entries = [cache for cache in spec.caches if cache.kept and cache.per_entry.whole]
    if not entries:
        return "vLLM has it where layers attend, beside those that keep a state"
    if version_key(version) < STATES_SINCE:
        return (
            "what prompts share is not modelled where layers keep a state (mamba_cache_mode) "
            f"before vLLM {'.'.join(map(str, STATES_SINCE))}"
        )
    if drafts:
        return "what prompts share is not modelled where layers that keep a state verify drafts"
    if any(cache.window is not None for cache in entries):
        return "what prompts share is not modelled where layers keep a state beside windows"
    return None


def retention_tokens(interval: RetentionInterval) -> int:
    """Return it as the cache has it."""
    return DENSE if isinstance(interval, str) else interval


def check_retention(interval: RetentionInterval, layout: KvLayout, version: str) -> None:
    """Check what windows keep, where prompts are cached. Raises ValueError."""
    key = f"engine.prefix_cache_retention_interval = {interval}"
    usual = vllm().defaults.prefix_cache_retention_interval.at(version_key(version))
    if usual == "dense" != interval:
        raise ValueError(
            f"{key} with version {version}, expected dense: it is modelled as since 0.29"
        )
    if not isinstance(interval, int) or not interval:
        return
    if len(layout.groups) == 1:
        raise ValueError(f"{key}, expected 0 or dense where layers have one group of the KV cache")
    if interval % layout.hit_tokens:
        raise ValueError(
            f"{key}, expected 0, dense or a multiple of {layout.hit_tokens}, tokens of a block of "
            "every group of the KV cache"
        )
