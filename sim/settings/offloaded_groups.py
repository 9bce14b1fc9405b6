"""What a second tier of a KV cache of several groups does not go together with."""

from hardware.engines.versions import version_key
from hardware.memory.kv_blocks import MemoryLedger
from sim.settings.resolved_engine import ResolvedEngine

GROUPS_SINCE = (0, 33)
"""Version of vLLM whose rules these are."""


def check_offloaded_groups(settings: ResolvedEngine, ledger: MemoryLedger) -> None:
    """Raise ValueError where a host's memory with several groups of a cache is not modelled."""
    groups, chunk = ledger.layout.groups, settings.kv_connector_extra_config.blocks_per_chunk
    refused = (
        (version_key(settings.version)[:2] < GROUPS_SINCE, f"with version {settings.version}",
         f"expected {'.'.join(map(str, GROUPS_SINCE))} or later"),
        (settings.speculative is not None, "with engine.speculative",
         "expected one group: engine.disable_hybrid_kv_cache_manager: true"),
        (any(group.state for group in groups), "where layers keep a state", "expected none"),
        (any(group.chunked for group in groups), "where attention is chunked", "expected none"),
        (len({group.block_tokens for group in groups}) > 1, "with blocks of different sizes",
         "expected one group: engine.disable_hybrid_kv_cache_manager: true"),
        (chunk > 1, f"with kv_connector_extra_config.blocks_per_chunk = {chunk}",
         "expected 1: a window leaves blocks of a larger chunk behind before it is whole"),
    )  # fmt: skip
    for holds, where, expected in refused:
        if holds:
            raise ValueError(
                f"engine.kv_offloading_size = {settings.kv_offloading_size:g} is not modelled for "
                "layers that keep different tokens, in several groups of the KV cache, "
                f"{where}, {expected}"
            )
