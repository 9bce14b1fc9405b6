"""A store of KV that replicas share, as a study says, and as each pool sees it."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware.engines.versions import version_key
from hardware.memory.host_link import GIB
from sim.settings.offloading_config import OffloadingConfig
from sim.settings.pools import SERVE, Pool
from sim.settings.shared_store import SharedStore

SHARE_OF_NETWORK = 0.48
"""Of a GPU's network cards: 190 GB/s of 8 x 400 Gb/s, 40 GB of KV with Mooncake's transfer engine,
https://github.com/kvcache-ai/Mooncake (README). Cards of 200 Gb/s came further: 0.71 of 8 under
vLLM (4.5 GB in 31.65 ms, https://kvcache-ai.github.io/Mooncake/performance), 0.87 of 4 alone."""
LATENCY_S = 1e-3
"""Assumed. The smallest published transfer there, 20 MB, took 0.54 ms, of which its bytes at the
rate of the largest are 0.14."""
SINCE = (0, 31)
"""Version of vLLM whose requests wait for KV as they do here."""


class KvStoreConfig(BaseModel):
    """What all replicas share below their GPUs' memory, and the links to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    size_gib: Annotated[float, Field(gt=0, le=1e9)]
    """GiB that it holds, of all replicas together."""
    bandwidth_gb_s: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """GB/s of one GPU's link to it, in one direction. Default: 0.48 of the GPU's share of its
    server's network."""
    store_bandwidth_gb_s: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """GB/s of the store, in one direction; transfers of different replicas share it evenly.
    Default: no limit, as where it lies in the memory of all hosts."""
    latency_s: Annotated[float, Field(ge=0, le=60)] = LATENCY_S
    """Of a transfer, beside its bytes."""
    min_load_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Fewer tokens than these are computed, even if they are there. Not below a host's memory."""
    write_policy: Literal["write_through", "write_back"] = "write_through"
    """write_through: prompts are written as soon as they are computed, or are in the host's memory;
    write_back, with engine.kv_offloading_size: chunks are written when they make room there."""


def with_store(pools: tuple[Pool, ...], config: KvStoreConfig | None) -> tuple[Pool, ...]:
    """Return pools whose replicas share a store; None: they share none.

    Raises:
        ValueError: a pool cannot, or differs from the others in what it would write there.
    """
    if config is None:
        return pools
    shared = [replace(pool, store=_seen_by(pool, config)) for pool in pools]
    first = shared[0]
    for pool in shared[1:]:
        if _layout(pool) != _layout(first):
            raise ValueError(
                f"cluster.kv_store: pools {first.name} and {pool.name} differ in "
                "tensor_parallel_size, block_size, blocks_per_chunk, groups of the KV cache or the "
                "bytes of a block, so that neither reads what the other wrote, expected the same "
                "in all pools"
            )
    return tuple(shared)


def _layout(pool: Pool) -> tuple[object, ...]:
    assert pool.store is not None
    store, ranks = pool.store, pool.tensor_parallel_size
    return ranks, store.chunk_bytes, store.chunk_tokens, pool.ledger.layout.groups


def _seen_by(pool: Pool, config: KvStoreConfig) -> SharedStore:
    _check(pool, config)
    engine, ledger = pool.engine, pool.ledger
    blocks, ranks = engine.kv_connector_extra_config.blocks_per_chunk, pool.tensor_parallel_size
    own_bytes = ledger.block_bytes * blocks
    total_gb_s = config.store_bandwidth_gb_s
    store = SharedStore(
        size_bytes=int(config.size_gib * GIB),
        chunk_bytes=own_bytes * ranks,
        chunk_tokens=ledger.block_size * blocks,
        link_s=own_bytes / _bytes_per_s(pool, config),
        store_s=0.0 if total_gb_s is None else own_bytes * ranks / (total_gb_s * 1e9),
        latency_s=config.latency_s,
        min_load_tokens=config.min_load_tokens,
        writes_back=config.write_policy == "write_back",
    )
    if not store.chunks:
        raise ValueError(
            f"cluster.kv_store.size_gib = {config.size_gib:g} holds no chunk of "
            f"{store.chunk_tokens} tokens, {store.chunk_bytes / GIB:.3g} GiB, expected at least one"
        )
    return store


def _bytes_per_s(pool: Pool, config: KvStoreConfig) -> float:
    if config.bandwidth_gb_s is not None:
        return config.bandwidth_gb_s * 1e9
    if pool.gpu.network_bytes_per_s is None:
        raise ValueError(
            f"cluster.kv_store.bandwidth_gb_s: the network of {pool.gpu.name} is not known, "
            "expected GB/s of one GPU's link in one direction"
        )
    return SHARE_OF_NETWORK * pool.gpu.network_bytes_per_s


def _check(pool: Pool, config: KvStoreConfig) -> None:
    """Raise ValueError where a pool's replicas cannot share a store, or it is not modelled."""
    engine = pool.engine
    name = f"pool {pool.name}: " if pool.name else ""
    refused = (
        (pool.role != SERVE, f"in a pool of role: {pool.role}",
         f"{SERVE}: prompts are handed over"),
        (pool.data_parallel_size > 1, f"with data_parallel_size = {pool.data_parallel_size}",
         "1: ranks go in lockstep"),
        (pool.pipeline is not None, f"with pipeline_parallel_size = {pool.pipeline_parallel_size}",
         "1: steps of several stages are under way at a time"),
        (pool.drafts is not None, "with engine.speculative",
         "none: drafts leave blocks that are not final"),
        (len(pool.ledger.layout.groups) > 1 and pool.host is None, "where layers keep different "
         "tokens, in several groups of the KV cache, and no host's memory lies above it",
         "engine.kv_offloading_size, or one group: with engine.disable_hybrid_kv_cache_manager: "
         "true windows have none of their own"),
    )  # fmt: skip
    for holds, where, expected in refused:
        if holds:
            raise ValueError(f"{name}cluster.kv_store is not modelled {where}, expected {expected}")
    if engine.scheduler != "chunked_prefill" or not engine.enable_prefix_caching:
        raise ValueError(
            f"{name}cluster.kv_store with engine.scheduler = {engine.scheduler} and "
            f"enable_prefix_caching: {str(engine.enable_prefix_caching).lower()}, expected "
            "chunked_prefill and true: what the store has is found behind what the GPU has"
        )
    if version_key(engine.version)[:2] < SINCE:
        since = ".".join(map(str, SINCE))
        raise ValueError(
            f"{name}cluster.kv_store with engine.version {engine.version}, expected {since} or "
            "later: requests that wait for KV are queued here as they are since then"
        )
    _check_tiers(pool, config, name)


def _check_tiers(pool: Pool, config: KvStoreConfig, name: str) -> None:
    """Raise ValueError where a setting is of a host's memory that is not there, or not with it."""
    own = {"blocks_per_chunk", "offload_prompt_only"}
    if pool.host is not None:
        own.add("eviction_policy")
        if config.min_load_tokens:
            raise ValueError(
                f"cluster.kv_store.min_load_tokens = {config.min_load_tokens} below "
                "engine.kv_offloading_size, expected 0: what the store has comes to the host first"
            )
    elif config.write_policy == "write_back":
        raise ValueError(
            f"{name}cluster.kv_store.write_policy = write_back without engine.kv_offloading_size, "
            "expected write_through: nothing makes room above the store that could be written then"
        )
    told = pool.engine.kv_connector_extra_config
    for key, value in told.model_dump(exclude_defaults=True).items():
        if key not in own:
            raise ValueError(
                f"{name}engine.kv_connector_extra_config.{key} = {value} with cluster.kv_store, "
                f"expected {getattr(OffloadingConfig(), key)}: not modelled above a store"
            )
