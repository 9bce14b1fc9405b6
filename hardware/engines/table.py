"""``engines.yaml``: constants, defaults and memory of an engine by version, read and checked."""

from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from hardware.calibration import PARAMETERS
from hardware.engines.versions import Dated
from hardware.yaml_file import Row, read_bundled, validated
from model.dataclass import dataclass
from model.kept import kept
from model.shape import DecoderSpec


@dataclass(frozen=True)
class EngineConstants(Row):
    """Constants of one engine from one version on, and how uncertain they are."""

    since: str
    """First version that they hold for."""
    fitted: tuple[str, ...]
    """Versions of the runs that they were fitted to."""
    source: str
    """What they were fitted to, or why they are assumed."""
    values: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Parameters of a calibration, by name."""
    std: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Standard errors of those that were fitted."""


@dataclass(frozen=True)
class Tier(Row):
    """A default of some GPUs."""

    take: PositiveInt
    from_gib: NonNegativeFloat = 0.0
    """Least memory, as the driver counts it."""
    only: tuple[str, ...] = ()
    """Words of a GPU's name for which alone it holds; none: for all."""
    unless: tuple[str, ...] = ()
    """Words of a GPU's name for which it does not hold."""


Tiers = tuple[Tier, ...]


@dataclass(frozen=True)
class Defaults(Row):
    """What the engine does where nobody says otherwise; engines.yaml says what each key means."""

    generation: Dated[Literal["v0", "v1"]]
    chunked_prefill_from_tokens: Dated[NonNegativeInt]
    max_num_seqs: Dated[Tiers]
    chunk_tokens: Dated[Tiers]
    whole_prompt_tokens: Dated[PositiveInt]
    enable_prefix_caching: Dated[bool]
    gpu_memory_utilization: Dated[float]
    async_scheduling: Dated[bool]
    scheduler_reserve_full_isl: Dated[bool]
    reserve_caps_windows: Dated[bool]
    watermark: Dated[float]
    null_block: Dated[bool]
    moe_backend: Dated[str | None]
    computes_empty_tiles: Dated[bool]
    long_prefill_limits_alone: Dated[bool]
    serves_behind_victim: Dated[bool]
    misses_behind_victim: Dated[bool]
    drafts_tell_at_end: Dated[bool]
    drafts_by_group: Dated[bool]
    drafts_drop_at_end: Dated[bool]
    lru_ranks_requests: Dated[bool]
    offers_chunks_again: Dated[bool]
    tiers_end_behind_offers: Dated[bool]
    defers_frees: Dated[bool]
    reuse_unhashed_first: Dated[bool]
    reuse_unhashed_first_of_windows: Dated[bool]
    prefix_cache_retention_interval: Dated[NonNegativeInt | Literal["dense"]]
    names_whole_hits: Dated[bool]
    finds_any_groups: Dated[bool]
    caches_states: Dated[bool]
    exports_states: Dated[tuple[str, ...]]
    checkpoint_kv_dtype: Dated[tuple[str, ...]]
    marks_states_again: Dated[bool]
    ends_before_last: Dated[bool]
    holds_states_before_holes: Dated[bool]


@dataclass(frozen=True)
class FusedAllReduces(Row):
    """All-reduces that compute the norm behind them; engines.yaml says what each key means."""

    by_default: Dated[bool]
    beside_ranks: Dated[bool]
    beside_stages: Dated[bool]
    up_to_mib: Dated[dict[str, dict[int, PositiveFloat]]]


@dataclass(frozen=True)
class Sampler(Row):
    """Bytes that the sampler's buffers take for each logit."""

    bytes: PositiveInt
    few_rows: NonNegativeInt = 0
    """Below so many rows another kernel runs, with ``few_rows_bytes``."""
    few_rows_bytes: NonNegativeInt = 0


@dataclass(frozen=True)
class Served(Row):
    """Models that something serves; one that states nothing serves all."""

    architectures: tuple[str, ...] = ()
    dense: bool = False
    """Models without experts only."""
    quantized: bool = True
    """Quantised ones, too."""
    states: bool = True
    """Those with layers that keep a state, too."""

    def serves(self, spec: DecoderSpec, quantized: bool) -> bool:
        """Tell whether it serves a model, whose checkpoint may be ``quantized``."""
        return (
            (not self.architectures or spec.architecture in self.architectures)
            and not (self.dense and spec.num_experts)
            and (self.quantized or not quantized)
            and (self.states or not spec.state_bytes_per_sequence(1))
        )


def served_by(rows: tuple[Served, ...], spec: DecoderSpec, quantized: bool) -> bool:
    """Tell whether one of these is for a model."""
    return any(row.serves(spec, quantized) for row in rows)


@dataclass(frozen=True)
class NonTorch(Row):
    """GiB on the card that torch does not hold, by kind of card and group."""

    ada: NonNegativeFloat
    hopper: NonNegativeFloat
    pcie: NonNegativeFloat
    nvlink: NonNegativeFloat
    doubled: NonNegativeFloat = 0.0
    """More for each doubling of a group beyond two, where links are not PCIe."""


@dataclass(frozen=True)
class GraphBatch(Row):
    """Largest batch that is captured."""

    most: PositiveInt
    most_blackwell: PositiveInt


@dataclass(frozen=True)
class SamplingCost(Row):
    """What a part of drawing takes."""

    step_s: NonNegativeFloat
    """Once per step."""
    logit_bytes: NonNegativeFloat
    """For each logit of each sequence: so many bytes at the memory's bandwidth."""
    rows: NonNegativeInt = 0
    """Sequences from which on it is ``more_logit_bytes``, for those beyond; 0: never."""
    more_logit_bytes: NonNegativeFloat = 0


@dataclass(frozen=True)
class Sampling(Row):
    """How tokens are drawn; engines.yaml says what each key means."""

    generation_config: Dated[Literal["auto", "vllm"]]
    benchmark: Dated[Literal["greedy", "server"]]
    cut: Dated[SamplingCost]
    penalties: Dated[SamplingCost]


@dataclass(frozen=True)
class GraphMib(Row):
    """MiB of a captured graph."""

    layer: NonNegativeFloat
    layer_in_group: NonNegativeFloat
    decode: NonNegativeFloat


@dataclass(frozen=True)
class IndexWorkspace(Row):
    """How many of the longest requests a buffer of keys of an index holds."""

    lengths: NonNegativeInt
    beyond: PositiveInt | None = None
    """From longer requests on, ``longer`` of them."""
    longer: NonNegativeInt = 0

    def tokens(self, longest: int) -> int:
        """Return the tokens whose keys it holds."""
        far = self.beyond is not None and longest > self.beyond
        return longest * (self.longer if far else self.lengths)


@dataclass(frozen=True)
class StateBlockTokens(Row):
    """Tokens that blocks are a multiple of, where they have to hold a state."""

    latent: PositiveInt
    """Of latent attention."""
    latent_blackwell: PositiveInt
    """The same on B200 and its kin."""
    wide_heads_blackwell: PositiveInt
    """There, of heads of 256 numbers."""


@dataclass(frozen=True)
class Memory(Row):
    """What the engine takes of a GPU's memory; engines.yaml says what each key means."""

    startup_gib: Dated[NonNegativeFloat]
    sampler: Dated[Sampler]
    second_runner: Dated[tuple[Served, ...]]
    second_runner_sampler: Dated[Sampler]
    expert_chunk_tokens: Dated[PositiveInt | None]
    expert_workspace_stays: Dated[bool]
    index_workspace: Dated[IndexWorkspace]
    cold_compile: Dated[bool]
    non_torch_gib: Dated[NonTorch]
    hybrid_groups: Dated[bool]
    chunked_groups: Dated[bool]
    compressed_blocks: Dated[Literal["slots", "sizes", "widest"] | None]
    alike_layers: Dated[PositiveFloat]
    state_block_tokens: Dated[StateBlockTokens]
    keeps_stored_scales: Dated[bool]
    steps_in_flight: Dated[PositiveInt]
    tokens_by_concurrency: Dated[bool]
    graphs_charged: Dated[bool]
    second_runner_graphs_charged: Dated[bool]
    graph_batch: Dated[GraphBatch]
    graph_mib: Dated[GraphMib]


@dataclass(frozen=True)
class DataParallel(Row):
    """How data-parallel ranks work together; engines.yaml says what each key means."""

    oldest: str
    dense_apart: Dated[bool]
    pads_every_step: Dated[bool]
    sync_steps: Dated[PositiveInt]
    syncs_first: Dated[bool]
    balancing: Dated[Literal["queue", "cache"]]
    turns: Dated[bool]
    quantized_dispatch: Dated[bool]


@dataclass(frozen=True)
class PipelineParallel(Row):
    """How steps of pipeline stages are planned; engines.yaml says what each key means."""

    oldest: str
    groups: str
    first_runner: Dated[Literal["none", "held", "followed"]]
    second_runner: Dated[Literal["none", "spaced"]]
    fills: Dated[bool]


@dataclass(frozen=True)
class PriceError(Row):
    """Standard errors of the speed of matrix products and of reading the cache in an engine."""

    source: str
    """Where they come from."""
    fitted_on: tuple[str, ...]
    """GPUs of the runs that the constants were fitted to."""
    fitted: NonNegativeFloat
    """On those."""
    measured: NonNegativeFloat
    """On others with kernels of their own."""
    borrowed: NonNegativeFloat
    """On GPUs with the kernels of a relative."""
    experts: NonNegativeFloat
    """Of mixtures of experts, besides."""
    version: NonNegativeFloat
    """Of versions that the constants were not fitted to, besides."""
    small_cache: NonNegativeFloat
    """Of caches in fewer than 16 bits, which no run had that was fitted alone, besides."""
    host: NonNegativeFloat
    """Of host times on other GPUs than those, whose hosts nobody knows."""
    tail: NonNegativeFloat
    """Of the highest percentiles of TTFT, besides: hosts pause, servers warm up."""

    def of(self, gpu: str, kernels: str) -> float:
        """Return that of a GPU with the kernels of itself or of another one."""
        if gpu != kernels:
            return self.borrowed
        return self.fitted if gpu in self.fitted_on else self.measured


@dataclass(frozen=True)
class EngineTable(Row):
    """All that is known of one engine."""

    oldest: str
    """First version that is modelled."""
    newest: str
    """Last one."""
    constants: dict[str, EngineConstants]
    """Ascending by version."""
    price_error: PriceError
    defaults: Defaults
    fused_all_reduces: FusedAllReduces
    data_parallel: DataParallel
    pipeline_parallel: PipelineParallel
    memory: Memory
    sampling: Sampling


@dataclass(frozen=True)
class _File(Row):
    vllm: EngineTable


@lru_cache(maxsize=1)
def vllm() -> EngineTable:
    """Return what is known of vLLM.

    Raises:
        ValueError: mistakes in the file, such as a constant that no calibration has.
    """
    return kept("engines", _read)


def _read() -> EngineTable:
    path = Path(__file__).parents[1] / "engines.yaml"
    table = validated(_File, read_bundled(path), path.name).vllm
    for name, constants in table.constants.items():
        unknown = constants.values.keys() - PARAMETERS.keys()
        if unknown:
            raise ValueError(f"{path.name}: {name}: {', '.join(sorted(unknown))}: no parameters")
    return table
