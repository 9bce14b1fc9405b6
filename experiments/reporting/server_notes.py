"""What a server would not do, or would do otherwise, that a study says or leaves to defaults."""

import re

from experiments.study.build import longest_that_fits, prices_of, settled
from experiments.study.calibrations import gpu_of
from experiments.study.document import Study
from hardware.engines.defaults import engine_defaults
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.memory.kv_groups import KERNEL_TOKENS
from model.caches import HEADS
from model.counts import count_of
from model.spec import load_spec
from sim.settings.prefix_caching import uncached

_WHOLE = re.compile(r"\b(?:dgx|hgx|nvl\d+)\b", re.I)
"""Words for a whole server, in a name that means a GPU of it."""


def server_notes(study: Study) -> list[str]:
    """Say so of one point (of one pool)."""
    return [
        *_gpu_notes(study),
        *_block_notes(study),
        *_length_notes(study),
        *_rejection_notes(study),
        *_cache_notes(study),
    ]


def _gpu_notes(study: Study) -> list[str]:
    """Say that the name of a server stands for one of its GPUs, unless whole ones are simulated."""
    pool, gpu = study.cluster.all_pools[0], gpu_of(study.cluster.all_pools[0].gpu, prices_of(study))
    count = pool.gpus_of_one * pool.replicas
    if not (isinstance(pool.gpu, str) and _WHOLE.search(pool.gpu)):
        return []
    if count % gpu.gpus_per_server == 0:
        return []
    return [
        f"gpu {pool.gpu} means one {gpu.name}, of which such a server has {gpu.gpus_per_server}: "
        f"{count_of(count, 'GPU')} {'is' if count == 1 else 'are'} simulated, as "
        "tensor_parallel_size, the other sizes and replicas say"
    ]


def _block_notes(study: Study) -> list[str]:
    """Say that no server has such blocks; where layers keep latent entries or a state, they are
    larger than a study says, and fit."""
    size = study.engine.block_size
    larger = any(cache.kind != HEADS for cache in load_spec(study.model).caches)
    if size % KERNEL_TOKENS == 0 or larger:
        return []
    return [
        f"engine.block_size = {size} is simulated as it is, but vLLM's attention on these GPUs "
        f"takes multiples of {KERNEL_TOKENS}, and its server does not start with others"
    ]


def _length_notes(study: Study) -> list[str]:
    """Say that the longest request is what fits, where nobody stated one."""
    engine, spec = settled(study).engine, load_spec(study.model)
    if engine.max_model_len != longest_that_fits(study):
        return []
    return [
        f"max_model_len is {engine.max_model_len}, as a request of {spec.max_model_len} tokens, "
        f"the longest of {spec.name}, does not fit into the KV cache: vLLM refuses to start until "
        "--max-model-len says so"
    ]


def _rejection_notes(study: Study) -> list[str]:
    """Say that no request can be served, where the shortest is too long already."""
    lengths, most = study.workload.lengths, settled(study).engine.max_model_len
    if lengths is None or lengths.trace is not None or study.workload.sessions is not None:
        return []
    least = sum(
        getattr(law, "value", getattr(law, "min", 1)) for law in (lengths.prompt, lengths.output)
    )
    if most is None or least <= most:
        return []
    return [
        f"every request is rejected: it has at least {least:,} tokens, prompt and answer together, "
        f"expected at most max_model_len = {most:,}"
    ]


def _cache_notes(study: Study) -> list[str]:
    """Say where the KV cache does less than vLLM's, unasked."""
    engine, spec = settled(study).engine, load_spec(study.model)
    gpu = gpu_of(study.cluster.all_pools[0].gpu, prices_of(study))
    version = str(engine.version)
    drafts = engine.speculative is not None
    stages = max(pool.pipeline_parallel_size for pool in study.cluster.all_pools)
    why = uncached(spec, version, engine.disable_hybrid_kv_cache_manager, drafts, stages)
    on = engine_defaults(version, gpu).enable_prefix_caching
    if any(cache.states for cache in spec.caches):
        on = vllm().defaults.caches_states.at(version_key(version))
    if engine.enable_prefix_caching or not on or why is None:
        return []
    return [
        f"prefix caching is off, though vLLM has it on with {spec.name}: {why}. Prompts that begin "
        "alike are computed whole: TTFT is too long and capacity too low for them"
    ]
