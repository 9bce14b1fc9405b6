"""Settings of a second tier of the KV cache in the host's memory, under vLLM's names."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware.engines.versions import version_key

SINCE = (0, 31)
"""Version of vLLM whose connector this is; it told finished requests apart, and queued those who
wait for KV, otherwise before."""

DRAFTS_SINCE = (0, 33)
"""And whose rules for drafts."""


class OffloadingConfig(BaseModel):
    """What vLLM takes as `kv_connector_extra_config` of its OffloadingConnector."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    blocks_per_chunk: int = Field(default=1, gt=0, le=65_536)
    """GPU blocks that are kept, found and brought as one."""
    eviction_policy: Literal["lru", "arc"] = "lru"
    """Which chunks make room: those used longest ago, or by adaptive replacement, which keeps what
    was used again."""
    store_threshold: int = Field(default=0, ge=0, le=10**9)
    """A chunk is kept when it is offered for this time; 0 and 1: at once."""
    max_tracker_size: int = Field(default=64_000, gt=0, le=10**9)
    """store_threshold: chunks whose offers are counted."""
    offload_prompt_only: bool = True
    """Whether only prompts are kept. Otherwise answers as well, which the next turn of a
    conversation begins with."""


def check_offloading(settings: Mapping[str, Any], drafts: bool) -> None:
    """Check that an engine, with every default, can have a second tier. Raises ValueError."""
    version, scheduler = settings["version"], settings["scheduler"]
    if version_key(version)[:2] < SINCE:
        since = ".".join(map(str, SINCE))
        raise ValueError(
            f"engine.kv_offloading_size: with version {version}, expected {since} or later: its "
            "connector is modelled as it is since then"
        )
    if drafts and version_key(version)[:2] < DRAFTS_SINCE:
        since = ".".join(map(str, DRAFTS_SINCE))
        raise ValueError(
            f"engine.kv_offloading_size: with engine.speculative and version {version}, expected "
            f"{since} or later: what is kept of answers with drafts is modelled as it is since then"
        )
    if scheduler != "chunked_prefill":
        raise ValueError(
            f"engine.kv_offloading_size: with scheduler: {scheduler}, expected chunked_prefill"
        )
    if not settings["enable_prefix_caching"]:
        raise ValueError(
            "engine.kv_offloading_size: with enable_prefix_caching: false, expected true: what the "
            "host keeps is found behind what the GPU has"
        )
