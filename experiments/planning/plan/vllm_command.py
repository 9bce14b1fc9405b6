"""The words after ``vllm serve`` that start a replica with the settings that were simulated."""

import json
from typing import Any

from experiments.study.document import Study
from hardware.memory.host_link import GIB
from sim.settings.engine_config import EngineConfig
from sim.settings.kv_store import KvStoreConfig
from sim.settings.kv_transfer import LEASE_S, KvTransferConfig
from sim.settings.offloading_config import OffloadingConfig
from sim.settings.pools import SERVE
from sim.settings.speculative import SpeculativeConfig

NOT_FLAGS = (
    "version", "scheduler", "order", "long_prefill_limits_alone", "scheduler_reserve_full_isl",
    "reuse_unhashed_first", "null_block", "watermark", "batch_timeout_s", "attention",
    "step_overhead_s", "sequence_overhead_s", "first_request_s",
    "api_request_s", "api_token_s", "api_output_s", "api_loop_request_s", "api_loop_output_s",
    "api_shared_loop",
    "enable_prefix_caching", "prefix_cache_retention_interval", "async_scheduling",
    "num_gpu_blocks", "quantization", "sampling", "cudagraph_mode", "fuse_allreduce_rms",
    "expert_load_exponent", "scheduler_settings", "order_settings", "speculative",
    "kv_offloading_size", "kv_connector_extra_config", "host_link",
)  # fmt: skip
"""Settings that ``vllm serve`` has no flag of that name for, that follow from the version, or that
are written in another way."""
TIERING = {
    "spec_name": "TieringOffloadingSpec",
    "secondary_tiers": [{"type": "fs", "root_dir": "SHARED_FOLDER"}],
}
"""What OffloadingConnector is told of a store below the host's memory."""
STORE_CONNECTOR = "MooncakeStoreConnector"
KEEPS_ANSWERS = {"save_decode_cache": True}
"""MooncakeStoreConnector's word for ``offload_prompt_only: false``."""


def vllm_arguments(
    study: Study,
    role: str = SERVE,
    transfer: KvTransferConfig | None = None,
    store: KvStoreConfig | None = None,
) -> list[str]:
    """Return the words of one replica.

    Args:
        study: of one pool, settled.
        role: of the pool.
        transfer: how prompts get from one role to the other; None: vLLM's way.
        store: what all replicas share; None: nothing.
    """
    engine = study.engine
    words = [study.model, "--tensor-parallel-size", str(study.cluster.tensor_parallel_size)]
    if study.cluster.pipeline_parallel_size > 1:
        words += ["--pipeline-parallel-size", str(study.cluster.pipeline_parallel_size)]
    if study.cluster.data_parallel_size > 1:
        words += ["--data-parallel-size", str(study.cluster.data_parallel_size)]
    for name in EngineConfig.model_fields:
        value = getattr(engine, name)
        default = EngineConfig.model_fields[name].default
        if name in NOT_FLAGS or value is None or (value == default and name != "block_size"):
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    if engine.speculative is not None and engine.speculative.num_speculative_tokens:
        words += ["--speculative-config", json.dumps(speculative_config(engine.speculative))]
    compilation: dict[str, object] = {}
    if engine.cudagraph_mode != "auto":
        compilation["cudagraph_mode"] = engine.cudagraph_mode
    if engine.fuse_allreduce_rms is not None:
        compilation["pass_config"] = {"fuse_allreduce_rms": engine.fuse_allreduce_rms}
    if compilation:
        words += ["--compilation-config", json.dumps(compilation)]
    words += _kv_arguments(engine, role, transfer, store)
    if store is not None and engine.kv_offloading_size is None:
        kept = {} if engine.kv_connector_extra_config.offload_prompt_only else KEEPS_ANSWERS
        words += ["--kv-transfer-config", json.dumps(_connector(STORE_CONNECTOR, kept))]
    if engine.quantization not in ("auto", "none"):
        words += ["--quantization", engine.quantization]
    if engine.num_gpu_blocks is not None:
        words += ["--num-gpu-blocks-override", str(engine.num_gpu_blocks)]
    if engine.order == "priority":
        words += ["--scheduling-policy", "priority"]
    retention = engine.prefix_cache_retention_interval
    if isinstance(retention, int) and retention:  # 0, and dense, are what versions have
        words += ["--prefix-cache-retention-interval", str(retention)]
    for name in ("enable_prefix_caching", "async_scheduling"):
        value = getattr(engine, name)
        if value is not None:
            words.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
    return words


def _kv_arguments(
    engine: EngineConfig, role: str, transfer: KvTransferConfig | None, store: KvStoreConfig | None
) -> list[str]:
    """Words for KV in the host's memory, and for KV that goes from one pool to another.

    The host's memory alone is one flag, or its connector with what differs. Both connectors
    together are one that holds them.
    """
    size_gib, told = engine.kv_offloading_size, engine.kv_connector_extra_config
    connectors: list[dict[str, Any]] = []
    if role != SERVE:
        connectors.append(_handing_over(transfer or KvTransferConfig()))
    if size_gib is not None:
        if told == OffloadingConfig() and not connectors and store is None:
            return ["--kv-offloading-size", f"{size_gib:g}"]
        extra = told.model_dump(exclude_defaults=True) | {"cpu_bytes_to_use": int(size_gib * GIB)}
        if store is not None:
            extra |= TIERING
        connectors.append(_connector("OffloadingConnector", extra))
    if not connectors:
        return []
    whole = connectors[0]
    if len(connectors) > 1:
        whole = _connector("MultiConnector", {"connectors": connectors})
    return ["--kv-transfer-config", json.dumps(whole)]


def _handing_over(transfer: KvTransferConfig) -> dict[str, Any]:
    """NixlConnector is told the same on both sides: the router decides who computes what."""
    extra: dict[str, Any] = {}
    if transfer.kv_lease_duration != LEASE_S:
        extra["kv_lease_duration"] = transfer.kv_lease_duration
    return _connector(transfer.kv_connector, extra)


def _connector(name: str, extra: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"kv_connector": name, "kv_role": "kv_both"}
    return told | {"kv_connector_extra_config": extra} if extra else told


def speculative_config(speculative: SpeculativeConfig) -> dict[str, Any]:
    """Return what a server is told of its drafts: all but how many are right, which it finds."""
    told = {
        name: getattr(speculative, name)
        for name in (
            "method", "num_speculative_tokens", "model", "num_speculative_tokens_per_batch_size",
        )
    }  # fmt: skip
    if speculative.disable_eagle_block_drop:
        told["disable_eagle_block_drop"] = True
    return {name: value for name, value in told.items() if value is not None}


def notes_of(study: Study, store: KvStoreConfig | None = None) -> list[str]:
    """Say what of the simulation of a replica a command line cannot hold."""
    told = []
    if store is not None and study.engine.kv_offloading_size is not None:
        told.append(f"the store of {store.size_gib:g} GiB: write its folder into secondary_tiers")
        if store.write_policy == "write_back":
            told.append("write_policy: write_back is not an option of vLLM")
    elif store is not None:
        told.append(
            f"the store of {store.size_gib:g} GiB: its file is named by MOONCAKE_CONFIG_PATH"
        )
        if study.engine.kv_connector_extra_config.blocks_per_chunk > 1:
            told.append(f"blocks_per_chunk: {STORE_CONNECTOR} keeps single blocks")
    if "/" not in study.model:
        told.append(f"{study.model}: write the published name or the path of the checkpoint")
    drafts = study.engine.speculative
    if drafts is not None and drafts.num_speculative_tokens:
        if drafts.method in ("eagle", "eagle3") and drafts.model is None:
            told.append(f"{drafts.method}: write the head's name into the speculative config")
        told.append("how many drafts are right is the study's assumption: measure it")
    if study.engine.order == "shortest_prompt":
        told.append("order: shortest_prompt is not an option of vLLM")
    if study.engine.scheduler == "static":
        told.append("scheduler: static is not an option of vLLM")
    return told
