"""How KV caches go from replicas that prefill to replicas that decode: settings, and the link.

Names are those of vLLM's ``--kv-transfer-config`` and of llm-d's router.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from hardware.engines.versions import version_key
from hardware.memory.kv_groups import state_bytes
from model.caches import HEADS, STATE
from model.dataclass import dataclass
from sim.settings.pools import DECODE, PREFILL, Pool
from sim.settings.registry import policy

SHARE_OF_NETWORK = 0.45
"""Of a GPU's network cards, that a transfer reaches: 4 GB in 360 ms over 200 Gb/s with NIXL on UCX,
https://llm-d.ai/blog, release 0.5 (February 2026)."""
LATENCY_S = 0.025
"""What a transfer takes whatever its size. Published pulls of 2k to 49k tokens of gpt-oss-120b
between two H200 (35 to 235 ms, llm-d blog of August 2026) lie on a line that begins at 26 ms."""
PER_DESCRIPTOR_US = 1.0
"""Assumed, of the order of what posting costs over RDMA; ``cuda_ipc`` costs some twenty times as
much (https://github.com/vllm-project/vllm/issues/55434)."""
LEASE_S = 30.0
"""vLLM's default of ``kv_lease_duration`` since 0.22."""

GROUPS_SINCE = "0.22"
"""Version since which a KV connector that can keeps several groups of the cache, if nobody says
otherwise (``supports_hma`` in vllm/config/vllm.py); NixlConnector's windows hand over what they
still hold (``get_sw_clipped_blocks``)."""

PARTS_OF_A_STATE = 4
"""Of a layer, each with a descriptor: three of a convolution, and what follows it
(vllm/distributed/kv_transfer/kv_connector/v1/nixl/base_worker.py)."""

DRAFTS_SINCE = "0.32"
"""Version since which whoever loads a prompt leaves others what their next step with drafts takes
(``_spec_decode_step_blocks`` in vllm/v1/core/sched/scheduler.py)."""

GROUPS_WITH_DRAFTS_SINCE = "0.33"
"""The same where there are several groups: of a state one goes over the link, whatever is kept for
drafts (``clip_ssm_state_blocks`` in .../kv_connector/v1/nixl/base_scheduler.py)."""

Seconds = Annotated[float, Field(ge=0, le=1e4)]


class KvTransferConfig(BaseModel):
    """How prompts that one pool computed get to the pool that answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    kv_connector: Literal["NixlConnector"] = "NixlConnector"
    """vLLM's connector: the decoding replica pulls the blocks of a prompt, all at once."""
    decider: Literal["always", "prefix_based"] = "always"
    """Which prompts another pool computes. always: all of them; prefix_based: those of at least
    non_cached_tokens tokens that the chosen decoding replica does not have in its prefix cache. The
    others are served by that replica alone."""
    non_cached_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = Field(
        default=None, validate_default=True
    )
    """With decider: prefix_based, from how many tokens on; required then."""
    latency_s: Seconds = LATENCY_S
    """What a transfer takes whatever its size, seconds."""
    bandwidth_gb_s: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """GB/s of one GPU's link, in one direction. All transfers of a replica share its links evenly.
    Default: 0.45 of the GPU's share of its server's network."""
    per_descriptor_us: Annotated[float, Field(ge=0, le=1e6)] = PER_DESCRIPTOR_US
    """What posting one descriptor costs, microseconds; each rank posts its own."""
    descriptors_per_block: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Descriptors of a block on a rank. Default: one for each layer and each of K and V."""
    kv_lease_duration: Annotated[float, Field(gt=0, le=1e9)] = LEASE_S
    """How long blocks of a prompt stay where it was computed if nobody reads them, seconds. The
    decoding replica renews the lease for as long as it has the request."""
    kv_load_failure_policy: Literal["fail"] = "fail"
    """vLLM's default. No transfer fails here."""

    @field_validator("non_cached_tokens")
    @classmethod
    def _is_of_the_decider(cls, tokens: int | None, given: ValidationInfo) -> int | None:
        if tokens is not None and given.data.get("decider") == "always":
            raise ValueError("expected it with decider: prefix_based")
        if tokens is None and given.data.get("decider") == "prefix_based":
            raise PydanticCustomError("missing", "Field required")
        return tokens

    def disaggregates(self, uncached_tokens: int) -> bool:
        """Tell whether another replica computes a prompt of so many tokens that are not here."""
        return uncached_tokens >= (self.non_cached_tokens or 0)


@dataclass(frozen=True, slots=True)
class Link:
    """Between the replicas of two pools."""

    latency_s: float
    block_s: float
    """Of posting the descriptors of one block."""
    block_bytes: int
    """Of one block, on all ranks that read it together."""
    source_s: float
    """For one block: time of a link of the replica that has it, if nobody shares that."""
    sink_s: float
    """The same at the replica that reads it."""
    states: "States | None" = None
    """Of layers that keep a state; None: there are none."""

    def posting_s(self, blocks: int) -> float:
        """Return what lies before so many blocks, and a state, are on their way."""
        states_s = 0.0 if self.states is None else self.states.posting_s
        return self.latency_s + (blocks * self.block_s + states_s)

    def size_of(self, blocks: int) -> float:
        """Return what is on its way, in blocks."""
        return blocks if self.states is None else blocks + self.states.blocks

    def bytes_of(self, blocks: int) -> int:
        """Return their bytes, on all ranks that read them together."""
        return self.block_bytes * blocks + (0 if self.states is None else self.states.bytes)


@dataclass(frozen=True, slots=True)
class States:
    """What of a prompt is handed over whatever its length."""

    bytes: int
    """On all ranks together."""
    blocks: float
    """In bytes of a block."""
    posting_s: float


def link_of(config: KvTransferConfig, source: Pool, sink: Pool) -> Link:
    """Return what lies between a replica that prefills and one that decodes.

    Every rank of the sink reads its own heads; where they are copies it reads a copy, and so it is
    with latents. Of the source's ranks each sends its share, or a whole copy.

    Raises:
        ValueError: a GPU's network is not known, and no bandwidth is given.
    """
    read, kept = sink.ledger.block_bytes, source.ledger.block_bytes
    sent = max(kept, read * sink.tensor_parallel_size / source.tensor_parallel_size)
    descriptors = config.descriptors_per_block or _descriptors(sink)
    return Link(
        latency_s=config.latency_s,
        block_s=descriptors * config.per_descriptor_us * 1e-6,
        block_bytes=read * sink.tensor_parallel_size,
        source_s=sent / _bytes_per_s(config, source),
        sink_s=read / _bytes_per_s(config, sink),
        states=_states_of(config, sink),
    )


def _states_of(config: KvTransferConfig, pool: Pool) -> States | None:
    """Return the states of all layers, as they are: blocks that hold them may be larger."""
    ranks, drafts = pool.tensor_parallel_size, pool.drafts
    ahead = 0 if drafts is None else drafts.memory.tokens
    found = state_bytes(pool.spec, pool.precision, ranks, ahead)
    each = sum(len(places) * of_layer for places, of_layer in found)
    layers = sum(len(places) for places, _ in found)
    if not layers:
        return None
    return States(
        bytes=each * ranks,
        blocks=each / pool.ledger.block_bytes,
        posting_s=layers * PARTS_OF_A_STATE * config.per_descriptor_us * 1e-6,
    )


def last_tokens(pool: Pool) -> int:
    """Return how many tokens of a prompt the decoding replica computes that nobody else does.

    A state is of all tokens: that of the whole prompt does not give the last one's output.
    """
    return int(pool.ledger.layout.has_states)


def _descriptors(pool: Pool) -> int:
    """One for each layer with a cache, a drafter's too, and each of its keys and values.

    Layers of several groups share the memory of one, whose blocks have their places by turns.
    """
    groups = pool.ledger.layout.groups
    if len(groups) > 1:
        return 2 * max(group.layers for group in groups if not group.state)
    spec = pool.spec if pool.drafts is None else pool.drafts.memory.beside(pool.spec)
    kept = {cache: layers for cache, layers in spec.caches.items() if cache.kept}
    return sum(layers * (2 if cache.kind == HEADS else 1) for cache, layers in kept.items())


def _bytes_per_s(config: KvTransferConfig, pool: Pool) -> float:
    if config.bandwidth_gb_s is not None:
        return config.bandwidth_gb_s * 1e9
    if pool.gpu.network_bytes_per_s is None:
        raise ValueError(
            f"cluster.kv_transfer.bandwidth_gb_s: the network of {pool.gpu.name} is not known, "
            "expected GB/s of one GPU's link in one direction"
        )
    return SHARE_OF_NETWORK * pool.gpu.network_bytes_per_s


def check_transfers(pools: Sequence[Pool], config: KvTransferConfig) -> None:
    """Refuse pools between which vLLM, or this simulator, moves no KV cache.

    Raises:
        ValueError: names the key, and what is expected.
    """
    for source in pools:
        if source.role != PREFILL:
            continue
        for sink in pools:
            if sink.role == DECODE:
                _check_pair(source, sink)
                link_of(config, source, sink)


def _check_pair(source: Pool, sink: Pool) -> None:
    for pool in (source, sink):
        _check_engine(pool)
        _check_groups(pool)
    if source.ledger.block_size != sink.ledger.block_size:
        raise ValueError(
            f"pool {sink.name}: engine.block_size = {sink.ledger.block_size}, but "
            f"{source.ledger.block_size} in pool {source.name}, expected the same"
        )
    if source.engine.kv_cache_dtype != sink.engine.kv_cache_dtype:
        raise ValueError(
            f"pool {sink.name}: engine.kv_cache_dtype = {sink.engine.kv_cache_dtype}, but "
            f"{source.engine.kv_cache_dtype} in pool {source.name}, expected the same"
        )
    _check_drafters(source, sink)
    if source.ledger.layout.groups != sink.ledger.layout.groups:
        raise ValueError(
            f"pool {sink.name}: {_groups_text(sink)}, but {_groups_text(source)} in pool "
            f"{source.name}, expected the same groups of the KV cache in both: the same "
            "engine.disable_hybrid_kv_cache_manager and engine.version"
        )
    _check_ranks(source, sink)


def _check_engine(pool: Pool) -> None:
    """Raise ValueError where an engine does what nobody who hands prompts over does here."""
    engine = pool.engine
    told = [
        (not policy(engine.scheduler).cuts_prompts,
         f"engine.scheduler = {engine.scheduler} with role: {pool.role}, expected chunked_prefill"),
        (pool.host is not None,
         f"engine.kv_offloading_size = {engine.kv_offloading_size} with role: {pool.role} is not "
         "modelled, expected none: its connector hands prompts over"),
        (pool.pipeline is not None,
         f"pipeline_parallel_size = {pool.pipeline_parallel_size} with role: {pool.role} is not "
         "modelled, expected 1"),
        (pool.drafts is not None and version_key(engine.version) < version_key(DRAFTS_SINCE),
         f"engine.speculative with role: {pool.role} and version {engine.version}, expected "
         f"{DRAFTS_SINCE} or later: before, nobody who loads a prompt left room for drafts"),
    ]  # fmt: skip
    for found, text in told:
        if found:
            raise ValueError(f"pool {pool.name}: {text}")


def _check_groups(pool: Pool) -> None:
    """Raise ValueError where nobody hands over what a cache of several groups holds."""
    groups = pool.ledger.layout.groups
    where = f"pool {pool.name}: role: {pool.role} with {pool.spec.name}, whose KV cache has"
    states = any(group.state for group in groups)
    if all(group.state for group in groups):
        raise ValueError(f"{where} states alone: not modelled, expected layers that keep tokens")
    if states and pool.engine.enable_prefix_caching:
        raise ValueError(
            f"{where} layers with a state, and engine.enable_prefix_caching: true: handing over "
            "beside states that are found is not modelled, expected false"
        )
    if len(groups) == 1:
        return
    unified = "layers without states" if states else "engine.disable_hybrid_kv_cache_manager: true"
    if any(cache.kind not in (HEADS, STATE) for cache in pool.spec.caches):
        raise ValueError(
            f"{where} several groups, and not of keys and values or states alone: not modelled, "
            f"expected one group, or where layers have windows {unified}"
        )
    if version_key(pool.engine.version) < version_key(GROUPS_SINCE):
        raise ValueError(
            f"{where} several groups, and engine.version = {pool.engine.version}: before "
            f"{GROUPS_SINCE} vLLM takes one group with a KV connector, expected {unified}, or "
            f"{GROUPS_SINCE} or later"
        )
    since = GROUPS_WITH_DRAFTS_SINCE
    if pool.drafts is not None and version_key(pool.engine.version) < version_key(since):
        raise ValueError(
            f"{where} several groups, engine.speculative and engine.version = "
            f"{pool.engine.version}, expected {since} or later: drafts are modelled there as they "
            "are since then"
        )


def _groups_text(pool: Pool) -> str:
    return ", ".join(map(str, pool.ledger.layout.groups))


def _check_drafters(source: Pool, sink: Pool) -> None:
    """The drafter's layers are blocks' layers: both have them, or neither."""
    theirs = [each.drafts and each.drafts.memory.drafter for each in (source, sink)]
    if theirs[0] != theirs[1]:
        has, lacks = (source, sink) if theirs[0] else (sink, source)
        assert has.drafts is not None
        raise ValueError(
            f"pool {lacks.name}: engine.speculative makes no drafts with what pool {has.name} has "
            f"(method: {has.drafts.speculative.method}), expected the same in both: the drafter's "
            "layers are in the blocks that are handed over"
        )


def _check_ranks(source: Pool, sink: Pool) -> None:
    """As vLLM: one size divides the other, and a larger one of the source copies no heads."""
    sent, read = source.tensor_parallel_size, sink.tensor_parallel_size
    sizes = f"pool {source.name}: tensor_parallel_size = {sent}, but {read} in pool {sink.name}"
    if sent % read and read % sent:
        raise ValueError(f"{sizes}, expected sizes of which one divides the other")
    if sent != read and source.ledger.layout.has_states:
        raise ValueError(f"{sizes}: states go between equal ranks here, expected the same in both")
    heads = [cache.per_entry.whole for cache in source.spec.caches if cache.kind == HEADS]
    copied = source.ledger.block_bytes * sent > sink.ledger.block_bytes * read
    if sent > read and heads and copied:
        raise ValueError(
            f"{sizes}: ranks of the first hold copies of KV heads, which vLLM does not read from a "
            f"larger group, expected at most {read}, or the same in both"
        )
