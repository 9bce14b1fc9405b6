"""Data-parallel ranks: what their GPUs hold, what they spend, and what they send."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.calibration import DATASHEET, load_calibration
from hardware.gpu import load_gpu
from hardware.group import Group
from hardware.links.deepep import HIGH_THROUGHPUT, LOW_LATENCY
from hardware.links.exchange import GATHERED, Exchange, check_exchange, exchange_bytes
from hardware.memory.kv_blocks import DoesNotFitError, MemoryDemand, memory_ledger
from hardware.prices.choose import prices_of
from hardware.steps.cost import StepCost
from hardware.steps.ranks import ALONE, ranks_of
from hardware.steps.setup import StepSetup, step_cost
from model.dealing import experts_among
from model.precision import precision
from model.sharding import rank_weight_bytes
from model.spec import load_spec

H200 = load_gpu("h200-sxm")
DEEPSEEK, GLM = load_spec("deepseek-ai/DeepSeek-V3"), load_spec("zai-org/GLM-5.2-FP8")
QWEN = load_spec("qwen3-30b-a3b")  # 48 layers of 128 experts, hidden 2048
FP8 = precision("bfloat16", DEEPSEEK.checkpoint.weights)


def cost(dp: int, tp: int = 1, version: str = "0.33", seqs: int = 128) -> StepCost:
    return step_cost(StepSetup(
        spec=DEEPSEEK, gpu=H200, tp=tp, precision=FP8, max_tokens=2048, max_seqs=seqs,
        enable_expert_parallel=True, ranks=ranks_of(DEEPSEEK, dp, version, GATHERED),
    ))  # fmt: skip


@pytest.mark.parametrize(("dp", "least", "most"), [(8, 182_000, 220_000), (16, 650_000, 990_000)])
def test_the_cache_of_a_rank_is_what_was_published(dp: int, least: int, most: int) -> None:
    """KV tokens a rank of GLM-5.2 on H200, of engines of 8 and of 16 ranks (llm-d, 2026-07)."""
    ledger = memory_ledger(MemoryDemand(
        spec=GLM, gpu=H200, dp=dp, precision=precision("bfloat16", GLM.checkpoint.weights, "fp8"),
        block_size=64, gpu_memory_utilization=0.92, max_num_batched_tokens=8192, max_num_seqs=1024,
        max_model_len=32_768, version="0.31", enable_expert_parallel=True,
    ))  # fmt: skip
    assert least < ledger.kv_tokens < most


def test_experts_are_held_once_by_all_and_the_rest_by_each() -> None:
    limits = {"precision": precision(), "max_num_batched_tokens": 512, "max_num_seqs": 8}
    one, eight = (
        memory_ledger(
            MemoryDemand(
                spec=QWEN, gpu=H200, dp=dp, version="0.20", enable_expert_parallel=True, **limits
            )
        ).weights_bytes
        for dp in (1, 8)
    )
    experts = 48 * 128 * 3 * 768 * 2048 * 2
    assert one - eight == experts * 7 // 8


def test_more_ranks_gather_more_tokens_for_the_profile_run() -> None:
    """Workspace of fused experts: T k (max(d, 2 w) + w), of the tokens of all ranks."""
    limits = {"precision": precision(), "max_num_batched_tokens": 512, "max_num_seqs": 8}
    found = [
        memory_ledger(
            MemoryDemand(
                spec=QWEN, gpu=H200, dp=dp, version="0.33", enable_expert_parallel=True, **limits
            )
        ).workspace_bytes
        for dp in (2, 8)
    ]
    assert found == [dp * 512 * 8 * (2048 + 768) * 2 for dp in (2, 8)]


def test_what_does_not_fit_names_both_sizes() -> None:
    with pytest.raises(DoesNotFitError, match="tensor_parallel_size = 1, data_parallel_size = 4"):
        memory_ledger(
            MemoryDemand(
                spec=DEEPSEEK,
                gpu=H200,
                dp=4,
                precision=FP8,
                max_num_batched_tokens=8192,
                max_num_seqs=256,
                enable_expert_parallel=True,
            )
        )
    with pytest.raises(ValueError, match="data_parallel_size x tensor_parallel_size = 16 is more"):
        memory_ledger(
            MemoryDemand(
                spec=QWEN,
                gpu=load_gpu("l40s"),
                dp=16,
                precision=precision(),
                max_num_batched_tokens=512,
                max_num_seqs=8,
                enable_expert_parallel=True,
            )
        )


def test_alike_ranks_cost_what_the_even_table_says() -> None:
    price = cost(8)
    assert price.joint is not None
    for tokens in (1, 8, 100, 256, 700, 2048):
        shares, together_s = price.joint.shares_s([tokens] * 8)
        assert shares[0] + together_s == pytest.approx(price.token_s[tokens], rel=1e-12)


def test_padding_ends_with_the_largest_graph() -> None:
    """Twice 64 seats: 128 tokens are replayed, 200 are not; to 0.16 both are padded."""
    price, always = cost(8, seqs=64), cost(8, version="0.16", seqs=64)
    assert price.together is not None
    assert always.together is not None
    assert price.together.padded[[1, 128, 129, 200]].tolist() == [1, 128, -1, -1]
    assert always.together.padded[[1, 128, 129, 200]].tolist() == [1, 128, 129, 200]
    one_of_eight = [200] + [1] * 7
    few, many = (each.joint.shares_s(one_of_eight) for each in (price, always))
    assert few[1] < many[1]
    assert min(few[0]) < min(many[0]) == max(many[0])


def test_a_step_beyond_graphs_takes_what_the_host_takes_to_launch_it() -> None:
    """As without ranks: 58 layers of experts, each of them launched by the host."""
    price = cost(8, seqs=64)
    slow = replace(price.together, graph_tokens=128, eager_s=58 * 1.2e-3)
    joint = slow.prices(price.joint.own)
    for tokens in ([128] * 8, [200] + [1] * 7):
        shares, together_s = joint.shares_s(tokens)
        plain, plain_s = price.joint.shares_s(tokens)
        assert shares == plain
        if tokens[0] == 128:
            assert together_s == plain_s
        else:
            assert max(shares) + together_s == pytest.approx(58 * 1.2e-3)


def test_all_experts_are_computed_once_whatever_the_ranks() -> None:
    """FLOPs of a step of as many tokens in all: on one GPU, on eight ranks, on two of four."""
    numbers = precision()
    whole = Group(spec=QWEN, gpu=H200, precision=numbers)
    flops = sum(one.flops * one.layers for one in whole.expert_operators(512.0) if one.gemm)
    for tp, dp in ((1, 8), (4, 2)):
        rank = Group(
            spec=QWEN.with_whole_experts(tp * dp), gpu=H200, tp=tp, dp=dp, precision=numbers
        )
        each = sum(one.flops * one.layers for one in rank.expert_operators(512.0) if one.gemm)
        assert tp * dp * each == pytest.approx(flops)
        assert rank.all_reduces == 48 + 1  # behind attention, and the embedding


def test_experts_that_are_cut_are_computed_once_and_fill_as_much_memory() -> None:
    """As many FLOPs and bytes on every GPU as where they are dealt whole; a tile is narrower."""
    numbers = precision()
    for tp, dp in ((1, 4), (2, 2)):
        whole, parts = (
            Group(
                spec=experts_among(QWEN, tp, dp, whole=dealt), gpu=H200, tp=tp, dp=dp,
                precision=numbers,
            )
            for dealt in (True, False)
        )  # fmt: skip
        of_whole, of_parts = (
            next(one for one in each.expert_operators(512.0) if one.gemm is not None)
            for each in (whole, parts)
        )
        assert of_parts.flops == pytest.approx(of_whole.flops)
        assert (of_parts.groups, of_whole.groups) == (128, 128 / tp / dp)
        assert of_parts.gemm[1] * tp * dp == of_whole.gemm[1]
        held = [rank_weight_bytes(each.spec, precision=numbers, tp=tp) for each in (whole, parts)]
        assert held[0] == held[1]
    with pytest.raises(ValueError, match=r"data_parallel_size = 5 does not divide the experts"):
        experts_among(QWEN, 1, 5, whole=False)


def test_what_is_gathered_and_scattered_by_hand() -> None:
    """256 tokens of 2,048 numbers in 16 bits and 8 choices of 8 bytes, over 8 GPUs of H200."""
    group = Group(spec=QWEN.with_whole_experts(8), gpu=H200, dp=8, precision=precision())
    prices = prices_of(H200, DATASHEET, fused=True)
    out, back = 256 * (2048 * 2 + 8 * 8), 256 * 2048 * 2
    ring_s = 7 / 8 * (out + back) / H200.link_bytes_per_s + 14 * H200.link_latency_s
    sent = Exchange().by_total_s(group, prices, 8, np.array([0.0, 256.0]))
    assert sent[0] == 0
    assert sent[1] == pytest.approx(48 * ring_s)
    assert Exchange().by_most_s(group, prices, 8, np.array([32.0])) == 0


def test_quantised_tokens_are_sent_in_fewer_bytes() -> None:
    group = Group(spec=DEEPSEEK.with_whole_experts(8), gpu=H200, dp=8, precision=FP8)
    assert Exchange().dispatched_bytes(group) == 7168 * 2 + 8 * 8
    assert Exchange(quantized=True).dispatched_bytes(group) == 7168 * (1 + 4 / 128) + 8 * 8


def test_versions() -> None:
    assert ranks_of(QWEN, 1, "0.33", GATHERED) is ALONE
    assert ranks_of(load_spec("llama-3-8b"), 4, "0.33", GATHERED) is ALONE
    assert ranks_of(load_spec("llama-3-8b"), 4, "0.13", GATHERED).count == 4
    with pytest.raises(ValueError, match=r"data_parallel_size = 2 with vLLM 0.10.2, expected 1"):
        ranks_of(QWEN, 2, "0.10.2", GATHERED)


def test_deepep_within_what_was_measured_is_the_table() -> None:
    """Eight H200, DeepSeek's 7,168 numbers in fp8 and 8 choices: microseconds of 58 layers."""
    group = Group(spec=DEEPSEEK.with_whole_experts(8), gpu=H200, dp=8, precision=FP8)
    prices = prices_of(H200, DATASHEET, fused=True)
    tokens = np.array([0.0, 1.0, 64.0, 256.0, 512.0, 8192.0])
    fast = Exchange(LOW_LATENCY).by_most_s(group, prices, 8, tokens) / 58e-6
    one, few, whole = 11.9 + 12.56, 22.99 + 38.76, 60.52 + 124.47
    assert fast == pytest.approx([0, one, few, whole, 2 * whole, 32 * whole])
    wide = Exchange(HIGH_THROUGHPUT).by_most_s(group, prices, 8, tokens) / 58e-6
    assert wide[[0, 1, 2, 5]] == pytest.approx([0, 26.71 + 47.11, 37.75 + 64.38, 973.68 + 1834.99])
    for backend in (LOW_LATENCY, HIGH_THROUGHPUT):
        assert not Exchange(backend).by_total_s(group, prices, 8, tokens).any()


def test_deepep_beyond_what_was_measured_scales_with_bytes() -> None:
    """2,048 numbers in 16 bits; between four GPUs three of four choices leave, not seven of 8."""
    group = Group(spec=QWEN.with_whole_experts(4), gpu=H200, dp=4, precision=precision())
    prices = prices_of(H200, DATASHEET, fused=True)
    sent = Exchange(LOW_LATENCY).by_most_s(group, prices, 4, np.array([64.0]))
    share = 2048 / 7168 * (3 / 4) / (7 / 8)
    out = 11.9 + share * 2 / (1 + 4 / 128) * (22.99 - 11.9)
    back = 12.56 + share * (38.76 - 12.56)
    assert sent == pytest.approx(48e-6 * (out + back))


def test_deepep_keeps_buffers_and_takes_graphs_away() -> None:
    """128 experts, 2,048 numbers: the hint that DeepEP prints is 545,260,672 bytes, aligned."""
    assert 0 <= 545_260_672 - exchange_bytes(LOW_LATENCY, QWEN, 8) <= 128
    assert exchange_bytes(HIGH_THROUGHPUT, QWEN, 8) == 2**30
    assert exchange_bytes(GATHERED, QWEN, 8) == 0
    price = step_cost(StepSetup(
        spec=DEEPSEEK, gpu=H200, tp=1, precision=FP8, max_tokens=512, max_seqs=64,
        enable_expert_parallel=True, ranks=ranks_of(DEEPSEEK, 8, "0.33", HIGH_THROUGHPUT),
        calibration=load_calibration("h200-sxm"),
    ))  # fmt: skip
    assert price.together is not None
    assert (price.together.padded[1:] == -1).all()
    assert price.together.graph_tokens == 0
    assert price.token_s[1] == pytest.approx(58 * 1.2e-3)


def test_deepep_is_refused_where_nothing_was_measured() -> None:
    check_exchange(GATHERED, load_gpu("l40s"), 8)
    check_exchange(LOW_LATENCY, H200, 8)
    with pytest.raises(ValueError, match="on l40s is not modelled, expected allgather_reduces"):
        check_exchange(LOW_LATENCY, load_gpu("l40s"), 4)
    with pytest.raises(ValueError, match=r"between 16 GPUs is not modelled, .* or at most 8"):
        check_exchange(HIGH_THROUGHPUT, H200, 16)
