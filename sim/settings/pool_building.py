"""From a pool's settings to its ledger, prices and facts."""

from hardware.calibration import DATASHEET, Calibration
from hardware.engines.fused_reduces import with_fused_all_reduces
from hardware.engines.moe_backends import with_moe_backend
from hardware.engines.sampling import drawing_s
from hardware.gpu import Gpu
from hardware.group import Group
from hardware.links.exchange import check_exchange, exchange_bytes
from hardware.memory.host_link import HostMemory, host_memory, host_rates
from hardware.memory.kv_blocks import MemoryDemand, MemoryLedger, memory_ledger
from hardware.steps.pipeline import staged
from hardware.steps.ranks import Ranks
from hardware.steps.setup import StepSetup
from model.mlps.load import ExpertLoad
from model.spec import DecoderSpec
from sim.settings.drafts import draft_cost, draft_plan
from sim.settings.engine_config import DECODES_ALONE, EngineConfig, precision_of
from sim.settings.host_time import host_s
from sim.settings.offloaded_groups import check_offloaded_groups
from sim.settings.parallelism import checked_ranks, checked_stages
from sim.settings.pools import Pool, PoolConfig
from sim.settings.prefix_caching import check_retention
from sim.settings.registry import policy
from sim.settings.resolved_engine import ResolvedEngine, resolved


def build_pool(
    config: PoolConfig,
    spec: DecoderSpec,
    gpu: Gpu,
    engine: EngineConfig,
    calibration: Calibration = DATASHEET,
) -> Pool:
    """Resolve defaults, fill the memory ledger and tabulate the step prices.

    ``engine`` are the settings of this pool, those of the study included.

    Raises:
        hardware.memory.kv_blocks.DoesNotFitError: the weights, one block or the longest
            sequence do not fit.
        ValueError: a budget below ``max_num_seqs``, or a tensor-parallel size that does not divide.
    """
    tp, pp = config.tensor_parallel_size, config.pipeline_parallel_size
    settings = resolved(engine, gpu, spec, pp)
    dp = config.data_parallel_size
    ranks = checked_ranks(spec, settings, dp)
    if ranks.count > 1:
        check_exchange(settings.all2all_backend, gpu, tp * dp)
    drafts = draft_plan(settings, spec, gpu, ranks=dp)
    rules = checked_stages(spec, gpu, settings, pp, ranks=dp)
    ledger = ledger_of(spec, gpu, tp, settings, ranks.count, pp)
    if settings.enable_prefix_caching:
        interval = settings.prefix_cache_retention_interval
        check_retention(interval, ledger.layout, settings.version)
    calibration = _with_norms(calibration, settings, gpu, ranks.count, pp)
    setup = _step_setup(spec, gpu, tp, settings, calibration, ranks)
    price, pipeline = staged(setup, rules)
    _check_blocks(ledger, settings)
    return Pool(
        name=config.name,
        replicas=config.replicas * dp,
        data_parallel_size=dp,
        ranks=ranks,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        gpu_usd_per_hour=config.gpu_usd_per_hour or gpu.usd_per_hour,
        spec=spec,
        gpu=gpu,
        engine=settings,
        precision=setup.precision,
        calibration=setup.calibration,
        ledger=ledger,
        price=price,
        pipeline=pipeline,
        drafts=drafts,
        draft_cost=None if drafts is None else draft_cost(drafts, settings, setup),
        max_model_len=settings.max_model_len,
        token_budget=settings.max_num_batched_tokens,
        watermark_blocks=int(settings.watermark * ledger.num_gpu_blocks),
        async_scheduling=settings.async_scheduling,
        role=config.role,
        host=_host_memory(settings, ledger, gpu, config),
    )


def _with_norms(
    calibration: Calibration, settings: ResolvedEngine, gpu: Gpu, ranks: int, stages: int
) -> Calibration:
    """Prices where norms are part of all-reduces, if the settings say so."""
    fused = False if settings.enforce_eager else settings.fuse_allreduce_rms
    return with_fused_all_reduces(
        calibration, fused, settings.version, gpu, ranks=ranks, stages=stages
    )


def _step_setup(
    spec: DecoderSpec,
    gpu: Gpu,
    tp: int,
    settings: ResolvedEngine,
    calibration: Calibration,
    ranks: Ranks,
) -> StepSetup:
    """What the price of a pool's steps depends on."""
    numbers = precision_of(settings, spec, gpu)
    loaded = spec.with_expert_load(ExpertLoad(settings.expert_load_exponent))
    step_s, each_s = host_s(settings, calibration)
    calibration = with_moe_backend(
        calibration,
        settings.moe_backend,
        settings.version,
        Group(spec=loaded, gpu=gpu, tp=tp, precision=numbers),
        parts=1 if settings.enable_expert_parallel else tp * ranks.count,
    )
    drawn_s = None  # No table of kernels has it; bare peaks are without.
    if calibration.kernels is not None:
        seats, vocabulary = settings.max_num_seqs, spec.vocab_size
        drawn_s = drawing_s(settings.sampling, settings.version, vocabulary, gpu, seats)
    return StepSetup(
        spec=loaded,
        gpu=gpu,
        tp=tp,
        precision=numbers,
        calibration=calibration,
        enable_expert_parallel=settings.enable_expert_parallel,
        ranks=ranks,
        fused=settings.attention == "fused",
        max_tokens=_longest_step(settings),
        max_seqs=settings.max_num_seqs,
        max_cudagraph_capture_size=settings.max_cudagraph_capture_size,
        enforce_eager=settings.enforce_eager,
        graphs_of_decodes=settings.cudagraph_mode == DECODES_ALONE,
        step_overhead_s=step_s,
        sequence_overhead_s=each_s,
        drawing_s=drawn_s,
    )


def _check_blocks(ledger: MemoryLedger, settings: ResolvedEngine) -> None:
    if ledger.num_gpu_blocks - settings.null_block < 1:
        raise ValueError(
            f"num_gpu_blocks = {ledger.num_gpu_blocks} with null_block: true leaves no block for "
            "requests, expected at least 2"
        )


def _host_memory(
    settings: ResolvedEngine, ledger: MemoryLedger, gpu: Gpu, config: PoolConfig
) -> HostMemory | None:
    """The second tier of the KV cache, if there is one."""
    size_gib = settings.kv_offloading_size
    if size_gib is None:
        return None
    if config.data_parallel_size > 1:
        raise ValueError(
            f"engine.kv_offloading_size = {size_gib:g} with data_parallel_size = "
            f"{config.data_parallel_size} is not modelled, expected none or one rank: ranks go in "
            "lockstep, and nobody of them waits for another one's copies here"
        )
    if len(ledger.layout.groups) > 1:
        check_offloaded_groups(settings, ledger)
    host_rates(gpu, settings.host_link)
    return host_memory(
        size_gib,
        block_bytes=ledger.block_bytes,
        block_tokens=ledger.block_size,
        blocks_per_chunk=settings.kv_connector_extra_config.blocks_per_chunk,
        ranks=config.tensor_parallel_size,
    )


def ledger_of(
    spec: DecoderSpec, gpu: Gpu, tp: int, settings: ResolvedEngine, dp: int = 1, pp: int = 1
) -> MemoryLedger:
    """Fill the memory ledger of one GPU of ``dp`` ranks that share experts, of ``tp`` GPUs each.

    With ``pp`` stages that of the one with least room.

    Raises:
        hardware.memory.kv_blocks.DoesNotFitError: the weights, one block or the longest
            sequence do not fit.
    """
    plan = draft_plan(settings, spec, gpu)
    demand = MemoryDemand(
        spec=spec,
        gpu=gpu,
        precision=precision_of(settings, spec, gpu),
        tp=tp,
        block_size=settings.block_size,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        max_num_batched_tokens=_longest_step(settings),
        max_num_seqs=settings.max_num_seqs,
        num_gpu_blocks=settings.num_gpu_blocks,
        max_model_len=settings.max_model_len,
        version=settings.version,
        async_scheduling=settings.async_scheduling,
        disable_hybrid_kv_cache_manager=settings.disable_hybrid_kv_cache_manager
        or not policy(settings.scheduler).cuts_prompts,
        enable_prefix_caching=settings.enable_prefix_caching,
        enable_expert_parallel=settings.enable_expert_parallel,
        max_cudagraph_capture_size=0
        if settings.enforce_eager
        else settings.max_cudagraph_capture_size,
        drafts=None if plan is None else plan.memory,
        dp=dp,
        pp=pp,
        exchange_bytes=exchange_bytes(settings.all2all_backend, spec, tp * dp) if dp > 1 else 0,
    )
    return memory_ledger(demand)


def _longest_step(settings: ResolvedEngine) -> int:
    """Tokens of it. Without chunking a long prompt is a step of its own, whatever the budget."""
    budget = settings.max_num_batched_tokens
    chunked = policy(settings.scheduler).cuts_prompts
    return budget if chunked else max(budget, settings.max_model_len)
