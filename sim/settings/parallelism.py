"""What an engine's settings must be where its GPUs are more than one tensor-parallel group."""

from hardware.engines.pipelining import Pipelining, pipelining
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from hardware.links.exchange import GATHERED
from hardware.memory.kv_groups import several_groups
from hardware.steps.ranks import Ranks, ranks_of
from model.caches import COMPRESSED
from model.spec import DecoderSpec
from sim.settings.engine_config import DECODES_ALONE, precision_of
from sim.settings.resolved_engine import ResolvedEngine


def checked_ranks(spec: DecoderSpec, settings: ResolvedEngine, count: int) -> Ranks:
    """Return how data-parallel ranks of an engine work together.

    Raises:
        ValueError: what is not modelled of them.
    """
    ranks = ranks_of(spec, count, settings.version, settings.all2all_backend)
    if ranks.count == 1:
        return ranks
    if settings.enforce_eager:
        raise ValueError(
            f"engine.enforce_eager: true with cluster.data_parallel_size = {count} is not "
            "modelled, expected false: ranks that wait for each other and for their hosts"
        )
    if settings.cudagraph_mode == DECODES_ALONE:
        raise ValueError(
            f"engine.cudagraph_mode = {DECODES_ALONE} with cluster.data_parallel_size = {count} is "
            "not modelled, expected auto"
        )
    if settings.first_request_s:
        raise ValueError(
            f"first_request_s = {settings.first_request_s:g} with cluster.data_parallel_size = "
            f"{count}, expected 0: a cold start of ranks that work together is not modelled"
        )
    backend = settings.all2all_backend
    if spec.num_experts and not settings.enable_expert_parallel and backend != GATHERED:
        raise ValueError(
            f"engine.all2all_backend: {backend} without engine.enable_expert_parallel, expected "
            f"{GATHERED}: every GPU has a part of each expert, and needs all tokens"
        )
    if settings.scheduler != "chunked_prefill":
        raise ValueError(
            f"cluster.data_parallel_size = {count} with engine.scheduler: {settings.scheduler}, "
            "expected chunked_prefill: ranks that work together are modelled as in vLLM v1"
        )
    return ranks


def checked_stages(
    spec: DecoderSpec, gpu: Gpu, settings: ResolvedEngine, stages: int, *, ranks: int
) -> Pipelining:
    """Return how steps of pipeline stages are planned.

    Args:
        spec: the model.
        gpu: every rank's.
        settings: of the engine.
        stages: how many there are.
        ranks: data-parallel ones.

    Raises:
        ValueError: what is not modelled of them.
    """
    quantized = bool(precision_of(settings, spec, gpu).weights.schemes())
    version = settings.version
    rules = pipelining(spec, stages, version, quantized, settings.async_scheduling)
    if stages == 1:
        return rules
    told = f"cluster.pipeline_parallel_size = {stages} with"
    if ranks > 1:
        raise ValueError(
            f"{told} data_parallel_size = {ranks} is not modelled, expected 1 of one of them"
        )
    if settings.speculative is not None:
        raise ValueError(
            f"{told} engine.speculative is not modelled, expected none, or one stage of more "
            "GPUs: vLLM's last stage drafts, and the first one waits for that"
        )
    if settings.kv_offloading_size is not None:
        raise ValueError(
            f"{told} engine.kv_offloading_size = {settings.kv_offloading_size:g} is not modelled, "
            "expected none"
        )
    if several_groups(spec, version, settings.disable_hybrid_kv_cache_manager):
        _check_groups(spec, told, version)
    return rules


def _check_groups(spec: DecoderSpec, told: str, version: str) -> None:
    """Raise ValueError where groups of the KV cache over several stages are not modelled."""
    if any(cache.kind == COMPRESSED for cache in spec.caches):
        raise ValueError(
            f"{told} {spec.name} is not modelled, expected 1: its entries stand for several tokens"
        )
    since = vllm().pipeline_parallel.groups
    if version_key(version) < version_key(since):
        raise ValueError(
            f"{told} {spec.name} and vLLM {version}, expected 1, or {since} or later: its layers "
            "keep different tokens, in several groups of the KV cache"
        )
