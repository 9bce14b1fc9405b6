"""Experts dealt whole to the ranks of a group: the same work in other pieces."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.gpu import load_gpu
from hardware.group import Group
from hardware.memory.kv_blocks import MemoryDemand, memory_ledger
from hardware.steps.setup import StepSetup, step_cost
from model.mlps.experts import Experts
from model.mlps.load import ExpertLoad
from model.precision import precision
from model.shape import DecoderSpec
from model.sharding import cut_scales, rank_weight_bytes
from model.spec import load_spec, resolve_model
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.resolved_engine import resolved
from sim.settings.scenario import build_scenario

GPU = load_gpu("h100-sxm")
BF16 = precision()
QWEN = load_spec("qwen3-30b-a3b")  # 128 experts of width 768, 8 a token


def expert_product(spec: DecoderSpec, tokens: float, tp: int):
    group = Group(spec=spec, gpu=GPU, tp=tp, precision=BF16)
    (product,) = [one for one in group.token_operators(tokens) if one.name == "experts"]
    return product


def test_a_rank_has_fewer_experts_and_all_of_each() -> None:
    parts, whole = (expert_product(one, 64.0, 4) for one in (QWEN, QWEN.with_whole_experts(4)))
    assert (parts.groups, whole.groups) == (128, 32)
    assert parts.gemm == (64 * 8, 3 * 768 // 4, 2048)
    assert whole.gemm == (64 * 8 / 4, 3 * 768, 2048)
    assert whole.flops == parts.flops
    assert whole.weight_bytes == pytest.approx(parts.weight_bytes)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_even_shares_weigh_the_same(tp: int) -> None:
    whole = QWEN.with_whole_experts(tp)
    bytes_ = [rank_weight_bytes(one, precision=BF16, tp=tp) for one in (QWEN, whole)]
    assert bytes_[0] == bytes_[1]
    assert whole.with_whole_experts(1) == QWEN


def test_the_rank_with_most_experts_decides() -> None:
    """128 experts on 6 ranks: 22 on the fullest, which 22 of 128 tokens' choices reach."""
    whole = expert_product(QWEN.with_whole_experts(6), 600.0, 1)
    assert whole.groups == 22
    assert whole.gemm[0] == pytest.approx(600 * 8 * 22 / 128)


def test_an_uneven_load_makes_the_busiest_rank_wait_for_nobody() -> None:
    kinds = [replace(kind, mlp=replace(kind.mlp, load=ExpertLoad(1.2))) for kind in QWEN.layers]
    uneven = replace(QWEN, layers=tuple(kinds))
    mlp = QWEN.layers[0].mlp
    assert isinstance(mlp, Experts)
    busiest = ExpertLoad(1.2).busiest(128, 8, 8)
    assert busiest > 1.3
    even, odd = (expert_product(one.with_whole_experts(8), 512.0, 8) for one in (QWEN, uneven))
    assert odd.gemm[0] == pytest.approx(busiest * even.gemm[0])
    seconds = [
        np.array(
            step_cost(StepSetup(
                spec=one, gpu=GPU, tp=8, precision=BF16, max_tokens=4096, max_seqs=8,
                enable_expert_parallel=True,
            )).token_s
        )
        for one in (QWEN, uneven)
    ]  # fmt: skip
    assert seconds[1][4096] > seconds[0][4096]


def test_blocks_of_scales_are_not_cut() -> None:
    """Width 768 in four parts is 192, no multiple of 128; whole experts have no such parts."""
    fp8 = resolve_model("Qwen/Qwen3-30B-A3B-FP8")
    assert fp8.told is not None
    numbers = precision("bfloat16", load_spec("Qwen/Qwen3-30B-A3B-FP8").checkpoint.weights)
    assert "blocks of 128" in cut_scales(QWEN, numbers, 4)
    assert cut_scales(QWEN.with_whole_experts(4), numbers, 4) == ""


def test_the_ledger_and_prices_know_it() -> None:
    limits = {"precision": BF16, "max_num_batched_tokens": 8192, "max_num_seqs": 8}
    parts, whole = (
        memory_ledger(
            MemoryDemand(
                spec=QWEN, gpu=GPU, tp=4, version="0.15", enable_expert_parallel=dealt, **limits
            )
        )
        for dealt in (False, True)
    )
    assert parts.weights_bytes == whole.weights_bytes
    # What fused experts keep holds rows as wide as whole experts: 768 numbers, or 192 of a rank.
    assert parts.workspace_bytes == 8192 * 8 * (2048 + 192) * 2
    assert whole.workspace_bytes == 8192 * 8 * (2048 + 768) * 2
    prices = [
        step_cost(StepSetup(
            spec=QWEN, gpu=GPU, tp=4, precision=BF16, max_tokens=4096, max_seqs=8,
            enable_expert_parallel=dealt,
        ))
        for dealt in (False, True)
    ]  # fmt: skip
    # Even loads: the same products, but each rank adds up the outputs of its own experts only;
    # wider products read their inputs fewer times.
    flops = [price.token_work[0].tolist() for price in prices]
    assert flops[1] == pytest.approx(flops[0], rel=2e-3)
    assert prices[1].token_s[4096] < prices[0].token_s[4096]


def test_what_has_no_experts_to_deal_is_refused() -> None:
    with pytest.raises(ValueError, match="enable_expert_parallel: true with llama-3-8b, which has"):
        resolved(EngineConfig(enable_expert_parallel=True), GPU, load_spec("llama-3-8b"))
    with pytest.raises(ValueError, match="16 ranks of mixtral-8x7b with 8 experts, expected at mo"):
        load_spec("mixtral-8x7b").with_whole_experts(16)


def test_a_study_says_how_unevenly_tokens_choose() -> None:
    """Of 128 experts a step of 16 tokens reads fewer where some are popular; one token reads 8."""
    even, uneven = (
        build_scenario(
            QWEN,
            GPU,
            ClusterConfig(gpu="h100", tensor_parallel_size=2),
            EngineConfig(expert_load_exponent=exponent),
        )
        for exponent in (0, 1.2)
    )
    one, sixteen = (
        [price.token_s[n] for price in (even.pool.price, uneven.pool.price)] for n in (1, 16)
    )
    assert one[0] == pytest.approx(one[1])
    assert sixteen[1] < 0.9 * sixteen[0]
    assert even.pool.ledger == uneven.pool.ledger
