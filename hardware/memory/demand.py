"""What the memory of one GPU of a replica is asked for, and the ledger of where it goes."""

from hardware.engines.defaults import newest_version
from hardware.engines.pipelining import pipelining
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from hardware.memory.drafts import Drafts
from hardware.memory.kept_states import kept_states
from hardware.memory.kv_groups import kv_layout
from hardware.memory.kv_layout import KvLayout
from hardware.memory.ledger import MemoryLedger
from hardware.memory.profile_run import (
    ProfileRun,
    activation_peak,
    cold_compile_bytes,
    index_workspace_bytes,
    is_second,
    workspace_bytes,
)
from hardware.memory.runtime import graph_bytes, non_torch_bytes, startup_bytes
from hardware.memory.stages import of_all_stages
from model.dataclass import dataclass
from model.dealing import experts_among
from model.ops import (
    encoder_bytes,
    reordered_scales_bytes,
    rotary_table_bytes,
    stage_weight_bytes,
    unpacked_bytes,
)
from model.precision import Precision
from model.spec import DecoderSpec
from model.stages import Stage, stages_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDemand:
    """A model, the GPUs of a replica, and the settings of its engine that take memory."""

    spec: DecoderSpec
    gpu: Gpu
    """Every rank's."""
    tp: int = 1
    """Ranks that share the model."""
    precision: Precision
    """Bytes of weights, activations and KV cache."""
    block_size: int = 16
    """Tokens of a KV block."""
    gpu_memory_utilization: float = 0.90
    """Share of the memory that the engine takes."""
    max_num_batched_tokens: int
    """Tokens of the largest step."""
    max_num_seqs: int
    """Most sequences that get logits in one step."""
    num_gpu_blocks: int | None = None
    """Blocks to have instead of what is left. As in vLLM they may pass ``gpu_memory_utilization``,
    but not the GPU's memory."""
    max_model_len: int | None = None
    """Tokens of the longest sequence, which has to fit into the blocks, unless their number is
    given; None for no such check."""
    version: str = ""
    """Of vLLM, whose terms the ledger has; nothing: the newest that is modelled."""
    async_scheduling: bool = False
    """Whether a step is planned while the one before is computed."""
    disable_hybrid_kv_cache_manager: bool = False
    """Whether layers with a window keep everything where others do."""
    enable_prefix_caching: bool = False
    """Whether states are kept for others, too."""
    enable_expert_parallel: bool = False
    """Whether ranks hold experts whole, instead of a part of each."""
    max_cudagraph_capture_size: int | None = None
    """Tokens of the largest CUDA graph; None: the version's, 0: there are none."""
    dp: int = 1
    """Data-parallel ranks, of ``tp`` GPUs each, over which experts are dealt."""
    exchange_bytes: int = 0
    """Of buffers through which tokens come to experts on other GPUs."""
    drafts: Drafts | None = None
    """What the engine keeps to make drafts; None: there are none."""
    pp: int = 1
    """Pipeline stages of ``tp`` GPUs each."""

    def ledger(self) -> MemoryLedger:
        """Fill a ledger, whether it fits or not: of several stages that with least room."""
        spec = experts_among(self.spec, self.tp, self.dp, whole=self.enable_expert_parallel)
        stages = stages_of(spec, self.pp)
        return of_all_stages([self._of_stage(stage) for stage in stages], stages)

    def serves(self) -> bool:
        """Whether an engine would start."""
        ledger = self.ledger()
        return ledger.fits and ledger.holds_longest

    @property
    def _version(self) -> str:
        return self.version or newest_version()

    @property
    def _draft_tokens(self) -> int:
        return 0 if self.drafts is None else self.drafts.tokens

    def _of_stage(self, stage: Stage) -> MemoryLedger:
        gpu, table, version = self.gpu, vllm(), version_key(self._version)
        rules, run, layout = table.memory, self._profile_run(stage), self._layout_of(stage)
        weights, drafter = self._weight_bytes(stage), self._drafter_bytes()
        encoders = int(encoder_bytes(stage.spec, self.precision, self.tp)) if stage.embeds else 0
        rotary = int(rotary_table_bytes(stage.spec, self.precision))
        activations = activation_peak(run, rules, version)
        workspace = workspace_bytes(run, rules, version)
        indexed = index_workspace_bytes(run, rules, version)
        gpus = self.tp * self.dp * self.pp
        non_torch = non_torch_bytes(table, version, gpu, gpus) + self.exchange_bytes
        graphs = graph_bytes(
            table, version, stage.spec, gpu, self.tp * self.dp,
            self.max_num_seqs * (1 + self._draft_tokens), self.max_cudagraph_capture_size,
            second=is_second(run, rules, version),
        )  # fmt: skip
        budget = int(self.gpu_memory_utilization * gpu.memory_bytes)
        taken = weights + drafter + encoders + rotary
        left = budget - taken - (activations.bytes + workspace + non_torch + graphs)
        steps = self._steps_in_flight()
        given = self.num_gpu_blocks
        return MemoryLedger(
            model=stage.spec.name,
            gpu=gpu.name,
            tensor_parallel_size=self.tp,
            pipeline_parallel_size=self.pp,
            data_parallel_size=self.dp,
            total_bytes=gpu.memory_bytes,
            startup_bytes=startup_bytes(table, version),
            utilization=self.gpu_memory_utilization,
            budget_bytes=budget,
            weights_bytes=weights,
            activations=activations,
            cold_compile_bytes=cold_compile_bytes(run) if rules.cold_compile.at(version) else 0,
            workspace_bytes=workspace,
            workspace_of="keys of an index, experts" if indexed else "experts",
            non_torch_bytes=non_torch,
            graphs_bytes=graphs,
            kv_bytes=left,
            layout=layout,
            num_gpu_blocks=max(0, left // layout.block_bytes) if given is None else given,
            overridden=given is not None,
            encoder_bytes=encoders,
            drafter_bytes=drafter,
            weights_are=str(self.precision.weights),
            kv_numbers=self.precision.kv_numbers,
            rotary_table_bytes=rotary,
            max_model_len=self.max_model_len,
            in_flight_tokens=steps * self.max_num_batched_tokens,
            waits_for_steps=steps > 1,
            tokens_by_concurrency=rules.tokens_by_concurrency.at(version),
        )

    def _weight_bytes(self, stage: Stage) -> int:
        weights = int(stage_weight_bytes(stage, precision=self.precision, tp=self.tp))
        weights += int(unpacked_bytes(stage.spec, precision=self.precision, tp=self.tp))
        stored_too = vllm().memory.keeps_stored_scales.at(version_key(self._version))
        return weights + int(
            reordered_scales_bytes(
                stage.spec, precision=self.precision, tp=self.tp, stored_too=stored_too
            )
        )

    def _drafter_bytes(self) -> int:
        if self.drafts is None:
            return 0
        return self.drafts.weight_bytes(self.tp, self.dp, whole=self.enable_expert_parallel)

    def _profile_run(self, stage: Stage) -> ProfileRun:
        """The largest step that the engine tries at start."""
        return ProfileRun(
            spec=stage.spec,
            precision=self.precision,
            tp=self.tp,
            dp=self.dp,
            max_tokens=self.max_num_batched_tokens,
            max_seqs=self.max_num_seqs,
            sampled_rows=1 if self.drafts is None else 2,
            max_model_len=self.max_model_len or 0,
            block_tokens=self.block_size,
            embeds=stage.embeds,
            predicts=stage.predicts,
            first_runner=self.drafts is not None and not self.drafts.of_target,
        )

    def _steps_in_flight(self) -> int:
        """Steps whose tokens keep what windows have left behind (``max_concurrent_batches``)."""
        most = vllm().memory.steps_in_flight.at(version_key(self._version))
        if most == 1 or self.pp == 1:
            return most if self.async_scheduling else 1
        quantized = bool(self.precision.weights.schemes())
        return pipelining(
            self.spec, self.pp, self._version, quantized, self.async_scheduling
        ).batches

    def _layout_of(self, stage: Stage) -> KvLayout:
        """Of one stage; groups are those of the whole model, as all stages share their tables."""
        whole = None if self.pp == 1 else self._layout(self.spec)
        if whole is None or not whole.places:
            return self._layout(stage.spec)
        return whole.of_stage({place for kind in stage.spec.layers for place in kind.places})

    def _layout(self, spec: DecoderSpec) -> KvLayout:
        states = kept_states(spec, self.gpu, self._version, self.enable_prefix_caching)
        return kv_layout(
            spec,
            precision=self.precision,
            tp=self.tp,
            block_size=self.block_size,
            version=self._version,
            disable_hybrid_kv_cache_manager=self.disable_hybrid_kv_cache_manager,
            states=states,
            drafts=self.drafts,
        )
