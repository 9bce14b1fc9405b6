"""Small scenarios and workloads that the tests of sim/ share."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import load_gpu
from model.alike import attention_of
from model.mixers.delta import DeltaRule
from model.mixers.mamba import Mamba2
from model.mixers.mixer import Rotary
from model.shape import grouped
from model.spec import DecoderSpec, load_spec
from sim.recording.result import REPLICA_COLUMNS, Result
from sim.settings.cluster_config import NO_CLIENT, ClientConfig, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import Scenario, build_scenario
from tests.decoders import changed
from workloads.prefixes import prompt_prefixes
from workloads.requests import Prefixes, Requests

PLAIN: dict[str, object] = {
    "scheduler": "chunked_prefill",
    "async_scheduling": False,
    "max_num_seqs": 256,
    "long_prefill_limits_alone": True,
    "scheduler_reserve_full_isl": False,
    "enable_prefix_caching": False,
    "reuse_unhashed_first": False,
    "null_block": False,
    "gpu_memory_utilization": 0.9,
}
"""A scheduler without anything that a version brings; tests ask for what they are about."""


Windows = tuple[int | None, ...]
STATE = -1
"""Instead of a window: a layer with a state."""
SCAN = -2
"""The same, with a kernel that can leave two states of a step behind."""
CHUNK = 48
"""A window of so many positions is a chunk of them."""


def tiny_spec(windows: Windows = (None, None), **changes: object) -> DecoderSpec:
    """A Llama of 512 positions, with a layer for each window, or for all positions."""
    fields: dict[str, object] = {
        "name": "tiny",
        "hidden_size": 64,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "width": 128,
        "vocab_size": 1000,
        "max_position_embeddings": 512,
        "max_model_len": 512,
        "rotary": Rotary(500_000.0, 512, 16),
    }
    one = changed(load_spec("llama-3-8b"), **(fields | changes))
    (kind,) = one.layers
    state = DeltaRule(
        hidden_size=64, num_key_heads=2, num_value_heads=2, key_dim=8, value_dim=8, conv_kernel=4
    )
    scan = Mamba2(hidden_size=64, num_heads=2, head_dim=8, groups=1, state_size=8, conv_kernel=4)
    states = {STATE: state, SCAN: scan}
    mixers = [
        states[window] if window in states else replace(attention_of(one), sliding_window=window)
        for window in windows
    ]
    return replace(
        one,
        layers=grouped([(mixer, kind.mlp) for mixer in mixers], kind.norm),
        attention_chunk_tokens=CHUNK if CHUNK in windows else None,
    )


def draft_config() -> Path:
    """The file of a Llama that is smaller than ``tiny_spec``, with its vocabulary."""
    return Path(__file__).with_name("draft.json")


def scenario(
    *,
    replicas: int = 1,
    router: str = "round_robin",
    router_settings: dict[str, object] | None = None,
    seed: int = 0,
    windows: Windows = (None, None),
    idle_start_s: float = 0.0,
    client: ClientConfig = NO_CLIENT,
    stages: int = 1,
    **engine: object,
) -> Scenario:
    """A tiny model on one A100 per replica, with any engine settings; as many KV blocks as needed.

    What the memory would hold, 18 million, is more than a reference can keep one by one. Settings
    that are not given do not follow a version of vLLM: see ``PLAIN``.
    """
    settings: dict[str, object] = {
        "step_overhead_s": 1e-3, "sequence_overhead_s": 1e-5, "num_gpu_blocks": 4096, **PLAIN,
    }  # fmt: skip
    if engine.get("scheduler", "chunked_prefill") == "chunked_prefill":
        settings["max_num_batched_tokens"] = max(2048, int(str(engine.get("max_num_seqs", 0))))
    length = max(512, int(str(engine.get("max_model_len") or 512)))
    prices = Calibration(name="small", source="a test", idle_start_s=idle_start_s)
    cluster = ClusterConfig(
        gpu="a100-80gb-sxm",
        replicas=replicas,
        pipeline_parallel_size=stages,
        router=router,
        router_settings=router_settings or {},
    )
    return build_scenario(
        tiny_spec(windows, max_model_len=length),
        load_gpu("a100-80gb-sxm"),
        cluster,
        EngineConfig.model_validate(settings | engine),
        prices if idle_start_s else DATASHEET,
        seed=seed,
        client=client,
    )


def pooled(*pools: Scenario) -> Scenario:
    """The pools of scenarios, with the router, client, API and seed of the first."""
    named = tuple(replace(each.pool, name=f"p{number}") for number, each in enumerate(pools))
    return replace(pools[0], pools=named)


def requests(
    arrival_s: list[float],
    prompt_tokens: list[int],
    output_tokens: list[int],
    priority: list[int] | None = None,
    *,
    users: int | None = None,
    think_s: list[float] | None = None,
    prefixes: Prefixes | None = None,
) -> Requests:
    """Columns from lists."""
    rows = len(prompt_tokens)
    return Requests(
        arrival_s=np.array(arrival_s if users is None else [np.nan] * rows, dtype=float),
        prompt_tokens=np.array(prompt_tokens, dtype=np.int64),
        output_tokens=np.array(output_tokens, dtype=np.int64),
        priority=np.array(priority or [0] * rows, dtype=np.int64),
        users=users,
        think_s=None if think_s is None else np.array(think_s, dtype=float),
        prefixes=prefixes,
    )


def shared_prompts(prompt_tokens: list[int]) -> Prefixes:
    """Prompts that are all the same text, as far as they go."""
    prompts = np.array(prompt_tokens, dtype=np.int64)
    return prompt_prefixes(prompts, prompt_id=np.zeros(len(prompts), dtype=np.int64))


def replica_table(
    replicas: int, segments: dict[str, np.ndarray], resumed: list[int] | None = None, **work: object
) -> dict[str, np.ndarray]:
    """The table of replicas that belongs to these segments; what is not given is 0."""
    owner, rows = np.asarray(segments["replica"], dtype=np.int64), range(replicas)
    steps = np.bincount(owner, np.asarray(segments["steps"]), replicas)
    table = {name: np.zeros(replicas, dtype=np.int64) for name in REPLICA_COLUMNS} | {
        "segments": np.bincount(owner, minlength=replicas),
        "steps": steps.astype(np.int64),
        "resumed": np.array(resumed or [0 for _ in rows]),
    }
    return table | {name: np.full(replicas, value) for name, value in work.items()}


def assert_same(one: Result, other: Result) -> None:
    """Equal to the last bit, wherever the columns lie."""
    for field in fields(Result):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("requests", "segments", "replicas"):
            assert list(mine) == list(theirs)
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name, strict=True)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
