"""From a row's words to the engine, GPUs and model that are simulated.

Cells that are empty get the defaults of the engine's version on that GPU, and each of them is told.
"""

import re
from functools import partial

from experiments.validation.aiperf_results import ALIKE
from experiments.validation.cells import switched_on, version_of
from experiments.validation.checkpoints import as_served, quantization_of, whole_experts
from experiments.validation.chunking import scheduling
from experiments.validation.clients import drawing, router
from experiments.validation.drafting import drafted
from experiments.validation.more_clients import DRAFTED
from experiments.validation.recipes import inferencex, with_its_inputs
from experiments.validation.releases import version_at
from experiments.validation.remarks import names_cache
from experiments.validation.roles import Sizes, sizes_of
from experiments.validation.rows import RunRow
from experiments.validation.traffic import CannotPredictError
from experiments.validation.unmodelled import not_modelled, refused
from hardware.engines.defaults import nearest_version, newest_version
from hardware.engines.versions import Version, version_key
from hardware.gpu import Gpu, load_gpu
from hardware.memory.kv_blocks import DoesNotFitError
from model.dataclass import dataclass
from model.quantization.checkpoint import UNSAID
from model.spec import DecoderSpec, load_spec, resolve_model
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import DECODES_ALONE, EngineConfig
from sim.settings.pool_building import ledger_of
from sim.settings.prefix_caching import uncached
from sim.settings.resolved_engine import ResolvedEngine, resolved

V1 = (0, 8)
"""First version whose engine cuts prompts by default."""

UNSTATED_V0_TOKENS = 32_768
"""Longest max_model_len that an empty cell means before 0.8: a model whose context did not fit into
the cache had to be started with a shorter one."""

WITH_CHUNKS = ("PIECEWISE", "FULL", "FULL_AND_PIECEWISE")
"""Modes of CUDA graphs that replay steps with prompts' chunks, too: all taken alike."""

_DTYPES = (("float32", ("fp32", "float32")), ("bfloat16", ("bf16", "bfloat16", "auto")),
           ("float16", ("fp16", "float16", "half")))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run was served by."""

    spec: DecoderSpec
    gpu: Gpu
    cluster: ClusterConfig
    engine: ResolvedEngine
    version: Version | None
    notes: tuple[str, ...]
    """What was assumed."""
    roles: Sizes | None = None
    """How many of its replicas prefill for others, and how many decode."""


def setup_of(row: RunRow, longest_request_tokens: int) -> Setup:
    """Return what served a row.

    Args:
        row: the run.
        longest_request_tokens: longest prompt plus output that it is asked.

    Raises:
        CannotPredictError: another engine, a mode or a parallelism that is not modelled.
        ValueError: an unknown model or GPU; names the nearest.
    """
    _refuse(row)
    notes: list[str] = []
    name = resolve_model(row.model)
    # The row's own words decide the precision; the name only where it has none.
    words = row.precision or name.quantization or ""
    spec = as_served(load_spec(row.model), words, notes)
    gpu, version = gpu_of(row.gpu), _version(row, notes)
    spec = with_its_inputs(spec, row, gpu.name)
    notes += _chunk_notes(spec, longest_request_tokens)
    if not row.precision:
        told = f"{name.quantization}, as in the model's name" if words else "16 bits"
        notes.append(f"precision: {told}")
    notes += not_modelled(row, spec)
    settings = {
        **(_precision(words, gpu, notes) if spec.checkpoint == UNSAID else {}),
        **_kv_dtype(row),
        **_given(row, spec, nearest_version(version), notes),
        **inferencex(row, spec, gpu.name, version, notes),
        **drafted(row, nearest_version(version), gpu, notes),
    }
    _refuse_untold(row, settings)
    if not settings.get("enable_expert_parallel") and whole_experts(
        spec, row.tp or 1, row.data_parallel_size or 1, notes
    ):
        settings["enable_expert_parallel"] = True
    sizes = sizes_of(row)
    if sizes is not None:
        row = row.model_copy(update={"dp_replicas": sum(sizes)})
    cluster = _cluster(settings, row, spec, gpu, notes)
    engine = _served(settings, row, spec, gpu, cluster, notes)
    return Setup(spec, gpu, cluster, engine, version, tuple(notes), sizes)


SIZES = (1, 2, 4, 8)
"""Tensor-parallel sizes that are tried where a row has none."""


def _cluster(
    settings: dict[str, object], row: RunRow, spec: DecoderSpec, gpu: Gpu, notes: list[str]
) -> ClusterConfig:
    """Of ``tp`` GPUs a replica; of the fewest that hold the model where nothing is said."""
    replicas, ranks = row.dp_replicas or 1, row.data_parallel_size or 1
    before = router(row, notes) if replicas > 1 else "round_robin"
    stages = row.pp or 1
    engines = replicas * ranks * stages
    tp = row.tp or (max(1, row.n_gpus // engines) if row.n_gpus else None)
    of_size = partial(
        ClusterConfig,
        gpu=gpu.name, replicas=replicas, pipeline_parallel_size=stages, router=before,
        data_parallel_size=ranks,
    )  # fmt: skip
    if tp is not None:
        if row.tp is None:
            notes.append(f"tp: {tp}, as n_gpus = {row.n_gpus}")
        return of_size(tensor_parallel_size=tp)
    engine = resolved(EngineConfig.model_validate(settings), gpu, spec, stages)
    for size in SIZES:
        cluster = of_size(tensor_parallel_size=size)
        try:
            ledger_of(spec, gpu, size, engine, ranks, stages)
        except DoesNotFitError as error:
            if not error.ledger.fits:
                continue  # not even one block beside the weights
        notes.append(f"tp: {size}, the fewest GPUs of {gpu.name} that hold {spec.name}")
        return cluster
    raise CannotPredictError(
        f"tp is empty, and {spec.name} does not fit on {SIZES[-1]} {gpu.name}, expected its tp"
    )


def gpu_of(text: str) -> Gpu:
    """Return the GPU of a name that may tell its memory or its slot, too: ``RTX4090-24GB``.

    Raises:
        UnknownGpuError: not in the catalogue, or of other memory than the one that is.
    """
    try:
        return load_gpu(text)
    except ValueError:
        found = re.search(r"[\s_-]*(\d+)\s*gi?b\b", text, re.IGNORECASE)
        bare = text.replace(found[0], "") if found else text
        bare = re.sub(r"[\s_-]*pcie\b", "", bare, flags=re.IGNORECASE)
        try:
            gpu = load_gpu(bare)
        except ValueError:
            gpu = None
        if gpu is None or (found and abs(int(found[1]) * 1e9 / gpu.memory_bytes - 1) > 0.1):
            raise
        if "sxm" in gpu.name:  # the same chip in a slot is another GPU
            raise
        return gpu


def _version(row: RunRow, notes: list[str]) -> Version | None:
    """As told, else the newest one when the run was measured."""
    told = version_of(row.engine_version)
    guess = version_at(row.engine_version, row.notes, row.run_id) if told is None else None
    if guess is None:
        return told
    notes.append(f"engine_version: {guess[0]}, as it was measured in {guess[1]}")
    return version_of(guess[0])


def _refuse(row: RunRow) -> None:
    if "vllm" not in row.engine.lower():
        raise CannotPredictError(f"engine = {row.engine!r} is not modelled, expected vllm")


def _refuse_untold(row: RunRow, settings: dict[str, object]) -> None:
    """Refuse what a row or a client's result mentions and does not describe."""
    if why := refused(row, drafted="speculative" in settings):
        raise CannotPredictError(why)
    if DRAFTED in row.notes and "speculative" not in settings:
        raise CannotPredictError(
            f"{DRAFTED}, and the result does not say how: expected notes such as MTP k=1"
        )
    if ALIKE in row.notes and switched_on(row.prefix_caching) is not False:
        wanted = "prefix_caching=off, or a per_request_file with prefix_id and prefix_tokens"
        raise CannotPredictError(f"{ALIKE}, and the result does not say which: expected {wanted}")


def _chunk_notes(spec: DecoderSpec, longest_request_tokens: int) -> list[str]:
    """What is wrong with the attention of contexts that most layers would cut."""
    limit = spec.attention_chunk_tokens
    if limit is None or longest_request_tokens <= limit:
        return []
    return [
        f"requests of up to {longest_request_tokens} tokens attend windows of {limit} tokens in "
        f"most layers of {spec.name}, which attend chunks of that length: a little too slow"
    ]


def _precision(words: str, gpu: Gpu, notes: list[str]) -> dict[str, str]:
    text = words.lower()
    dtype = next((name for name, known in _DTYPES if any(word in text for word in known)), "auto")
    quantization = quantization_of(text)
    instead = {"fp8": "w8a16", "fp4": "int4"}
    if quantization in instead and quantization not in gpu.peak_flops_per_s:
        notes.append(
            f"{quantization} weights are widened to 16 bits (Marlin): {gpu.name} has no "
            f"{quantization} arithmetic"
        )
        quantization = instead[quantization]
    if quantization is None and dtype == "auto" and text and "16" not in text:
        raise CannotPredictError(
            f"precision = {words!r} is not known, expected bf16, fp16, fp32, fp8, int8, int4 or fp4"
        )
    if "bf16" in text and "fp16" in text:
        dtype = "auto"
    return {"dtype": dtype} if quantization is None else {"quantization": quantization}


def _kv_dtype(row: RunRow) -> dict[str, str]:
    if row.kv_cache_dtype is None and names_cache(row.precision or ""):
        text = f"precision = {row.precision!r} names the KV cache, expected its kv_cache_dtype"
        raise CannotPredictError(text)
    given = (row.kv_cache_dtype or "auto").lower()
    if "fp8" in given or "float8" in given:
        return {"kv_cache_dtype": "fp8"}
    if "auto" in given or "16" in given:
        return {"kv_cache_dtype": "auto"}
    raise CannotPredictError(
        f"kv_cache_dtype = {row.kv_cache_dtype!r} is not modelled, expected auto, fp8 or 16 bits"
    )


def _given(row: RunRow, spec: DecoderSpec, version: str, notes: list[str]) -> dict[str, object]:
    """What a row says of the engine, under vLLM's names; what it leaves open is not in it."""
    longest = spec.max_model_len
    v0 = version_key(version) < V1
    unstated = min(longest, UNSTATED_V0_TOKENS) if v0 else longest
    given: dict[str, object | None] = {
        "version": version,
        "max_model_len": min(row.max_model_len, longest) if row.max_model_len else unstated,
        "max_num_seqs": row.max_num_seqs,
        "max_num_batched_tokens": row.max_num_batched_tokens,
        "block_size": row.block_size,
        "num_gpu_blocks": row.kv_blocks,
        "first_request_s": row.first_request_s,
        "api_server_count": row.api_server_count,
        "gpu_memory_utilization": row.gpu_mem_util,
        "enable_prefix_caching": switched_on(row.prefix_caching),
    }
    given["sampling"] = drawing(row, spec, version, notes)
    given["async_scheduling"] = switched_on(row.async_scheduling)
    given |= _graphs(row)
    gpus = (row.tp or 1) * (row.data_parallel_size or 1)
    if (row.ep or 1) > 1 and gpus > 1 and spec.num_experts:
        given["enable_expert_parallel"] = True
    for name in ("prefix_caching", "chunked_prefill", "async_scheduling"):
        cell = getattr(row, name)
        if cell is not None and switched_on(cell) is None:
            notes.append(
                f"{name} = {cell!r} says neither on nor off: the default of vLLM {version}"
            )
    if row.n_gpus and row.tp and row.n_gpus != row.tp * (row.pp or 1) * (row.dp_replicas or 1):
        simulated = row.tp * (row.pp or 1) * (row.dp_replicas or 1)
        notes.append(
            f"n_gpus = {row.n_gpus}: {simulated} of them are simulated, as tp and others say"
        )
    given |= scheduling(row, spec, v0=v0, notes=notes)
    if given.get("scheduler") == "prefill_first" and given["enable_prefix_caching"]:
        notes.append("prefix caching of an engine without chunked prefill is not modelled: off")
        given["enable_prefix_caching"] = False
    return {key: value for key, value in given.items() if value is not None}


def _graphs(row: RunRow) -> dict[str, object]:
    """What a row says of CUDA graphs. Raises CannotPredictError for a mode that is not known."""
    mode = (row.cudagraph_mode or "").upper().rpartition(".")[2].strip()
    if switched_on(row.enforce_eager) or mode == "NONE":
        return {"enforce_eager": True}
    if mode == DECODES_ALONE:
        return {"cudagraph_mode": mode}
    if mode not in ("", "AUTO", *WITH_CHUNKS):
        raise CannotPredictError(
            f"cudagraph_mode = {row.cudagraph_mode!r} is not known, expected {DECODES_ALONE}, "
            f"{' or '.join(WITH_CHUNKS)}"
        )
    return {}


def _served(
    given: dict[str, object],
    row: RunRow,
    spec: DecoderSpec,
    gpu: Gpu,
    cluster: ClusterConfig,
    notes: list[str],
) -> ResolvedEngine:
    """Fill in the version's defaults on that GPU, and tell those that were taken."""
    budget, seats = given.get("max_num_batched_tokens"), given.get("max_num_seqs")
    if isinstance(budget, int) and isinstance(seats, int):
        given["max_num_seqs"] = min(seats, budget)
    version = str(given.get("version", ""))
    drafts = given.get("speculative") is not None
    stages = cluster.pipeline_parallel_size
    why = uncached(spec, version or newest_version(), False, drafts, stages)
    if given.get("enable_prefix_caching") and why and any(each.states for each in spec.caches):
        notes.append(f"prefix caching is off: {why}")
        given["enable_prefix_caching"] = False
    if given.get("enable_prefix_caching") and why:
        notes.append("prefix caching with layers that keep different tokens: all keep everything")
        given["disable_hybrid_kv_cache_manager"] = True
    engine = resolved(EngineConfig.model_validate(given), gpu, spec, stages)
    longest = _longest_that_fits(engine, spec, gpu, cluster)
    if longest < engine.max_model_len:
        stated = "" if row.max_model_len is None else f" instead of {row.max_model_len}"
        notes.append(f"max_model_len: {longest}{stated}, the longest that fits into the cache here")
        shorter = given | {"max_model_len": longest}
        engine = resolved(EngineConfig.model_validate(shorter), gpu, spec, stages)
    told = ["max_num_batched_tokens", "max_num_seqs"]
    told += [] if row.kv_blocks else ["gpu_memory_utilization"]
    for key in told:
        if key not in given:
            value = getattr(engine, key)
            notes.append(f"{key}: {value}, the default of vLLM {engine.version} on {gpu.name}")
    return engine


def _longest_that_fits(
    engine: ResolvedEngine, spec: DecoderSpec, gpu: Gpu, cluster: ClusterConfig
) -> int:
    """What the cache holds, where that is less than max_model_len: the server did start."""
    try:
        sizes = cluster.tensor_parallel_size, cluster.pipeline_parallel_size
        ledger_of(spec, gpu, sizes[0], engine, pp=sizes[1])
    except DoesNotFitError as error:
        if error.ledger.fits:
            return error.ledger.longest_tokens
    return engine.max_model_len
