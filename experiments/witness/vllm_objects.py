"""Objects of vLLM, whose constructors differ from release to release. Runs where vLLM is."""

import dataclasses
import inspect
import logging
import math
import os
from functools import cache
from importlib import import_module
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1",
    VLLM_LOGGING_LEVEL="ERROR", VLLM_CONFIGURE_LOGGING="0",
)  # fmt: skip
logging.disable(logging.CRITICAL)

import torch  # noqa: E402

AVX512 = "_is_avx512_supported"
if LACKS_AVX512 := not hasattr(torch._C._cpu, AVX512):  # 0.17 asks an older torch for it
    setattr(torch._C._cpu, AVX512, lambda: False)

from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.kv_cache_interface import (  # noqa: E402
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.structured_output import StructuredOutputManager  # noqa: E402

Json = dict[str, Any]
MAX_MODEL_LEN = 4096


@cache
def names_of(make: Any) -> frozenset[str]:
    """What a class of this version takes."""
    fields = make.__dataclass_fields__ if dataclasses.is_dataclass(make) else ()
    return frozenset((*inspect.signature(make).parameters, *fields))


def known(make: Any, settings: Json) -> Json:
    """Those settings that a class of this version takes."""
    names = names_of(make)
    return {name: value for name, value in settings.items() if name in names}


def lacking() -> list[str]:
    """Which settings of scenarios this version does not have."""
    names = ("scheduler_reserve_full_isl", "watermark", "long_prefill_token_threshold")
    lacks = [name for name in names if name not in names_of(SchedulerConfig)]
    others = {"prefix_cache_retention_interval": CacheConfig, "hash_block_size": Scheduler}
    lacks += [name for name, where in others.items() if name not in names_of(where)]
    coordinator = import_module("vllm.v1.core.kv_cache_coordinator")
    several = "exactly one other type" not in inspect.getsource(coordinator)
    return lacks if several else [*lacks, "finds_any_groups"]


class Config:
    """What all scenarios share: the model's part of the configuration."""

    def __init__(self, folder: str) -> None:
        if LACKS_AVX512:  # nor does the process know it that looks at the model's class
            registry: Any = import_module("vllm.model_executor.models.registry")
            registry._run_in_subprocess = lambda look: look()
        self.model = ModelConfig(
            model=folder, tokenizer=folder, skip_tokenizer_init=True, dtype="float32",
            max_model_len=MAX_MODEL_LEN,
        )  # fmt: skip

    def scheduler(self, scenario: Json) -> Any:
        """Return a fresh scheduler with groups of the KV cache and one null block."""
        wanted = {"max_num_seqs": scenario["seats"], "max_num_batched_tokens": scenario["budget"],
                  "policy": scenario["order"], "max_model_len": MAX_MODEL_LEN}  # fmt: skip
        absent = lacking()
        for name in ("long_prefill_token_threshold", "scheduler_reserve_full_isl", "watermark"):
            if name not in absent:
                wanted[name] = scenario[name]
            elif scenario[name]:
                raise LookupError(f"this version of vLLM has no {name}")
        optional = {"is_encoder_decoder": False, "enable_chunked_prefill": True,
                    "async_scheduling": scenario["ahead"]}  # fmt: skip
        settings = SchedulerConfig(**wanted, **known(SchedulerConfig, optional))
        size, blocks = scenario["block_size"], scenario["blocks"] + 1
        cache = CacheConfig(
            block_size=16, enable_prefix_caching=scenario["caching"],
            **known(CacheConfig, {"gpu_memory_utilization": 0.9, "swap_space": 0}),
        )  # fmt: skip
        cache.num_gpu_blocks = blocks
        drafts = scenario.get("drafts")
        if drafts:  # n-grams are refused with asynchronous scheduling, and are EAGLE later
            settings.async_scheduling = False
        config = VllmConfig(
            model_config=self.model, cache_config=cache, scheduler_config=settings,
            **connector_of(scenario), **self.speculative_of(drafts),
        )  # fmt: skip
        defers = _connected(scenario) and hasattr(Scheduler, "_request_blocks_can_be_freed")
        if drafts or scenario.get("hybrid") or defers:  # without a GPU it may have been taken back
            config.scheduler_config.async_scheduling = scenario["ahead"]
        if drafts:
            config.speculative_config.method = drafts["method"]
            config.scheduler_config.max_num_scheduled_tokens = scenario["budget"]
        if scenario.get("stages"):  # no GPUs are counted here, and the second runner asks for one
            settled: Any = import_module("vllm.config.vllm")
            settled.HAS_TRITON = True
            config.parallel_config.pipeline_parallel_size = len(scenario["stages"])
            config.scheduler_config.async_scheduling = scenario["ahead"]
        config.scheduler_config.max_num_batched_tokens = scenario["budget"]
        config.cache_config.enable_prefix_caching = scenario["caching"]
        if hasattr(cache, "prefix_cache_retention_interval"):  # a connector looks for it there
            config.cache_config.prefix_cache_retention_interval = retention_of(scenario, cache)
        config.cache_config.block_size = size  # some releases refuse sizes that CPU kernels lack
        if scenario["states"] and scenario["caching"]:
            config.cache_config.mamba_cache_mode = "align"
        kv = {
            "num_blocks": blocks,
            "kv_cache_tensors": [],
            "tensors": {},
            "kv_cache_groups": groups_of(scenario),
            "prefix_cache_retention_interval": retention_of(scenario, cache),
        }
        make = Scheduler
        if scenario["ahead"]:
            make = import_module("vllm.v1.core.sched.async_scheduler").AsyncScheduler
        return make(
            config, KVCacheConfig(**known(KVCacheConfig, kv)), StructuredOutputManager(config),
            # Several groups: a multiple of all their blocks.
            **known(Scheduler, {"block_size": common_block(scenario), "hash_block_size": size,
                                "log_stats": False}),
        )  # fmt: skip

    def speculative_of(self, drafts: Json | None) -> Json:
        """How drafts are made: of n-grams, for which no other model is loaded."""
        if not drafts:
            return {}
        make = import_module("vllm.config").SpeculativeConfig
        parallel = import_module("vllm.config").ParallelConfig
        ranges = [tuple(each) for each in drafts["by_sequences"]] or None
        told = {"method": "ngram", "num_speculative_tokens": drafts["tokens"],
                "prompt_lookup_max": 5, "prompt_lookup_min": 5,
                "disable_lookahead_block_hashes": True,  # docs/witness.md, of 0.33
                "num_speculative_tokens_per_batch_size": ranges,
                "target_model_config": self.model,
                "target_parallel_config": parallel()}  # fmt: skip
        return {"speculative_config": make(**known(make, told))}


def connector_of(scenario: Json) -> Json:
    """The connector to another engine, or to the host's memory (its room is given to it later)."""
    transfer: Any = getattr(import_module("vllm.config"), "KVTransferConfig", None)
    if scenario.get("handover"):
        return {"kv_transfer_config": transfer(kv_connector="NixlConnector", kv_role="kv_both")}
    host = scenario.get("host")
    if not host:
        return {}
    told = {name: host[name] for name in ("blocks_per_chunk", "offload_prompt_only")}
    return {
        "kv_transfer_config": transfer(
            kv_connector="OffloadingConnector", kv_role="kv_both",
            kv_connector_extra_config={"cpu_bytes_to_use": 1 << 30, **told},
        )
    }  # fmt: skip


def common_block(scenario: Json) -> int:
    """Tokens of a multiple of all blocks."""
    if scenario["states"] and not scenario["caching"]:
        return MAX_MODEL_LEN
    times = (scenario.get("hybrid") or {}).get("times", [1])
    return int(scenario["block_size"] * math.lcm(*times))


def retention_of(scenario: Json, cache: CacheConfig) -> int | None:
    """What windows keep: as the scenario says, or as the release does by default."""
    told = (scenario.get("hybrid") or {}).get("retention")
    if told is None:
        return getattr(cache, "prefix_cache_retention_interval", None)
    return None if told < 0 else int(told)


def groups_of(scenario: Json) -> list[Any]:
    """Groups of one layer each: full attention, windows, states of a sequence."""
    one = {"block_size": scenario["block_size"], "num_kv_heads": 1, "head_size": 1,
           "dtype": torch.float32, "use_mla": False}  # fmt: skip
    specs: list[Any] = []
    times = (scenario.get("hybrid") or {}).get("times") or [1] * len(scenario["windows"])
    for window, blocks in zip(scenario["windows"], times, strict=True):
        one["block_size"] = scenario["block_size"] * blocks
        if window is None:
            specs.append(FullAttentionSpec(**known(FullAttentionSpec, one)))
        elif scenario.get("chunked"):
            settings = one | {"attention_chunk_size": window}
            specs.append(ChunkedLocalAttentionSpec(**known(ChunkedLocalAttentionSpec, settings)))
        else:
            settings = one | {"sliding_window": window}
            specs.append(SlidingWindowSpec(**known(SlidingWindowSpec, settings)))
    drafts = scenario.get("drafts") or {"kinds": [], "tokens": 0, "method": ""}
    state = {"block_size": MAX_MODEL_LEN, "shapes": ((1,),), "dtypes": (torch.float32,),
             "num_speculative_blocks": drafts["tokens"]}  # fmt: skip
    if scenario["caching"] and scenario["states"]:
        exports = scenario["hybrid"]["exports"]
        state |= {"block_size": scenario["block_size"], "mamba_cache_mode": "align",
                  "num_prefill_checkpoint_blocks": int(exports),
                  "prefill_checkpoint_alignment": 1 if exports else None}  # fmt: skip
    for _ in range(scenario["states"]):
        specs.append(MambaSpec(**known(MambaSpec, state)))
    made = [KVCacheGroupSpec([f"layer {place}"], spec) for place, spec in enumerate(specs)]
    if "is_draft" in names_of(FullAttentionSpec) and drafts["method"].startswith("eagle"):
        for group, window in zip(made, scenario["windows"], strict=False):
            group.is_eagle_group = window in drafts["kinds"]
    return made


def block_hasher(size: int) -> Json:
    """What a request is given so that its blocks can be found, by version."""
    utils = import_module("vllm.v1.core.kv_cache_utils")
    make = getattr(utils, "get_request_block_hasher", None)
    if make is None:  # the cache manager hashes blocks itself
        return {}
    try:
        hashing = import_module("vllm.utils.hashing")
    except ImportError:
        hashing = import_module("vllm.utils")
    sha256 = hashing.sha256
    utils.init_none_hash(sha256)
    return {"block_hasher": make(size, sha256)}


def _connected(scenario: Json) -> bool:
    """Whether KV comes from elsewhere."""
    return bool(scenario.get("handover") or scenario.get("host"))
