from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.arithmetic import runnable
from hardware.gpu import load_gpu
from hardware.memory.kv_blocks import DoesNotFitError, MemoryDemand, memory_ledger
from model.ops import rank_weight_bytes, unpacked_bytes
from model.precision import precision
from model.spec import load_spec
from tests.decoders import changed

GIB = 2**30
BF16 = precision()


def ledger(model, gpu, **settings_):
    defaults = {
        "precision": BF16,
        "gpu_memory_utilization": 0.9,
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 256,
        "version": "0.15",
    }
    return memory_ledger(
        MemoryDemand(spec=load_spec(model), gpu=load_gpu(gpu), **(defaults | settings_))
    )


PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def logs():
    """Rows of the page's table of public logs: cells by heading."""
    text = PAGE.read_text(encoding="utf-8").split("## Against public logs")[1]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    headings, _, *rows = rows
    return [dict(zip(headings, row, strict=True)) for row in rows]


@pytest.mark.parametrize("log", logs(), ids=lambda log: f"{log['model']}-{log['vLLM']}")
def test_the_page_says_what_the_ledger_says(log):
    numbers = None if log["numbers"] == "16 bits" else log["numbers"]
    entry = ledger(
        log["model"],
        {"like": log["GPU"], "memory_bytes": round(float(log["GiB"]) * GIB)},
        precision=precision(quantization=numbers),
        tp=int(log["TP"]),
        version=log["vLLM"],
        max_num_batched_tokens=int(log["T"]),
        max_num_seqs=int(log["S"]),
        gpu_memory_utilization=float(log["share"]),
    )
    off = entry.kv_tokens / int(log["tokens logged"]) - 1
    assert (str(entry.kv_tokens), f"{100 * off:+.1f}%") == (log["ledger"], log["off"])


def test_pools_are_those_that_vllm_logs():
    """Within 2% in the median, 5% in nine of ten, without a term of its own for any of them."""
    off = [abs(int(log["ledger"]) / int(log["tokens logged"]) - 1) for log in logs()]
    assert len(off) >= 20
    assert float(np.median(off)) < 0.02
    assert sum(each < 0.05 for each in off) >= 0.9 * len(off)


def test_llama_3_8b_on_an_a100():
    entry = ledger("llama-3-8b", "a100-80gb-sxm")
    assert entry.weights_bytes == load_spec("llama-3-8b").parameters() * 2
    # 2 (keys, values) * 32 layers * 8 heads * 128 * 2 bytes * 16 tokens.
    assert entry.block_bytes == 2 * 2**20
    assert 27_000 < entry.num_gpu_blocks < 28_500
    assert entry.kv_tokens == 16 * entry.num_gpu_blocks
    assert entry.used_bytes <= entry.budget_bytes < entry.used_bytes + entry.block_bytes


def test_the_ledger_as_text():
    assert ledger("llama-3-8b", "a100", version="0.15").as_text() == (
        "memory of the GPU      79.15 GiB  a100-80gb-sxm\n"
        "budget                 71.23 GiB  gpu_memory_utilization = 0.9\n"
        "- weights              14.96 GiB  llama-3-8b\n"
        "- rotary table          0.00 GiB  cosines and sines of all positions\n"
        "- activations           1.18 GiB  largest step: sampling 256 rows\n"
        "- non-torch             0.22 GiB  CUDA, libraries, collectives\n"
        "= left for KV          54.88 GiB  28,097 blocks of 16 tokens, 2 MiB each"
    )


def test_one_block_is_one():
    entry = ledger("llama-3-8b", "a100", num_gpu_blocks=1, max_model_len=8)
    assert "given: 1 block of 16 tokens" in entry.as_text()


def test_a_newer_ledger_holds_graphs_and_tells_of_a_first_start():
    text = ledger("llama-3-8b", "h100", version="0.30").as_text()
    assert "largest step: layers, 2048 tokens (0.98 GiB at a first start, which compiles)" in text
    assert "- CUDA graphs           0.51 GiB  captured at start" in text


def test_experts_keep_a_workspace_since_0_14():
    def entry(version):
        settings_ = {"tp": 4, "precision": precision(quantization="fp8"), "max_num_seqs": 16}
        return ledger("qwen3-235b-a22b", "h200", version=version, **settings_)

    assert entry("0.13").workspace_bytes == 0
    # 2048 tokens, 8 experts each, of width 1536 / 4, over 4096 hidden numbers.
    assert entry("0.14").workspace_bytes == 2048 * 8 * (4096 + 384) * 2
    assert entry("0.14").activations.bytes < entry("0.13").activations.bytes
    assert entry("0.27").workspace_bytes == entry("0.14").workspace_bytes


def test_given_blocks_are_taken():
    entry = ledger("llama-3-8b", "a100", num_gpu_blocks=1000)
    assert entry.num_gpu_blocks == 1000
    assert entry.overridden
    assert "KV cache                1.95 GiB  given: 1,000 blocks" in entry.as_text()


def test_given_blocks_may_pass_the_utilization_but_not_the_memory():
    usual = ledger("llama-3-8b", "a100")
    spare = usual.free_bytes - usual.used_bytes
    most = usual.num_gpu_blocks + spare // usual.block_bytes
    assert most > usual.num_gpu_blocks
    assert ledger("llama-3-8b", "a100", num_gpu_blocks=most).num_gpu_blocks == most
    with pytest.raises(DoesNotFitError, match=f"num_gpu_blocks = {most + 1} does not fit") as error:
        ledger("llama-3-8b", "a100", num_gpu_blocks=most + 1)
    assert "smallest tensor_parallel_size that fits on a100-80gb-sxm: 2" in str(error.value)


def test_a_refusal_when_nothing_fits():
    with pytest.raises(DoesNotFitError, match="nor on any GPU of the catalogue"):
        ledger("llama-2-7b", "t4", num_gpu_blocks=10**9)


def test_the_size_that_is_suggested_is_a_power_of_two_within_one_server():
    """OPT-13B has 40 heads: 5 of these small GPUs would do, too."""
    small = {"like": "l4", "memory_bytes": 7 * GIB}
    for servers, expected in (
        (8, "fits on l4-modified: 8"),
        (4, "tensor_parallel_size = 1: rtx-5090"),
    ):
        with pytest.raises(DoesNotFitError, match="does not fit on l4-modified") as error:
            ledger("opt-13b", small | {"gpus_per_server": servers})
        assert str(error.value).endswith(expected)
    assert ledger("opt-13b", small, tp=5).fits


def test_a_group_larger_than_a_server():
    with pytest.raises(
        ValueError,
        match=r"tensor_parallel_size = 16 is more than one server of gpu l4 holds: "
        r"8 share its links \(PCIe 4.0 x16\), expected at most 8, or network_bytes_per_s of",
    ):
        ledger("llama-3-70b", "l4", tp=16)
    with pytest.raises(ValueError, match=r"8 share its links .* at most 8, or a multiple of it"):
        ledger("llama-3-70b", "h100", tp=12)
    assert ledger("llama-3-70b", "h100", tp=16).fits


def test_a_hint_may_name_several_servers():
    """Llama 3.1 405B takes 756 GiB in 16 bits: more than eight H100 have."""
    with pytest.raises(DoesNotFitError, match=r"that fits on h100-sxm: 16$"):
        ledger("llama-3.1-405b", "h100", tp=8)


def test_a_hint_names_no_more_than_four_servers():
    """32 of these small GPUs would have to hold 23.6 GiB each."""
    small = {"like": "h100-sxm", "memory_bytes": 20 * GIB}
    with pytest.raises(DoesNotFitError, match=r"no tensor_parallel_size up to 32 fits on"):
        ledger("llama-3.1-405b", small)


def test_a_hint_for_ranks_is_a_size_of_which_they_make_servers():
    """Four GPUs would hold the weights, but three ranks of four are a server and a half."""
    small = {"like": "h100-sxm", "memory_bytes": 45 * GIB}
    with pytest.raises(DoesNotFitError, match=r"that fits on h100-sxm-modified: 4$"):
        ledger("llama-3-70b", small)
    with pytest.raises(DoesNotFitError, match=r"that fits on h100-sxm-modified: 8$"):
        ledger("llama-3-70b", small, dp=3)


@pytest.mark.parametrize(("dp", "expected"), [(8, "h200-sxm"), (16, "gb200")])
def test_a_larger_gpu_has_all_ranks_in_a_server(dp, expected):
    """Latents are not divided, so that no size helps; servers of H200 have eight.

    16 ranks of 16 GPUs cannot share experts 1,408 wide: that size is not tried.
    """
    with pytest.raises(DoesNotFitError, match="smallest GPU") as error:
        ledger("deepseek-v2-lite", "v100-16gb-sxm", dp=dp, num_gpu_blocks=52_000)
    assert str(error.value).endswith(f"tensor_parallel_size = 1: {expected}")


def test_no_size_is_tried_that_has_more_gpus_than_experts():
    with pytest.raises(DoesNotFitError, match=r"no tensor_parallel_size up to 32 fits on h100"):
        ledger("mixtral-8x7b", "h100", enable_expert_parallel=True, num_gpu_blocks=10**9)


def test_a_size_that_does_not_divide_the_heads():
    with pytest.raises(ValueError, match=r"tensor_parallel_size = 3 does not divide llama-3-8b"):
        ledger("llama-3-8b", "a100", tp=3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization = 1.5, expected above 0"),
        ({"gpu_memory_utilization": 0.0}, "gpu_memory_utilization = 0.0, expected above 0"),
        ({"block_size": 0}, "block_size = 0, expected at least 1"),
        ({"max_num_batched_tokens": 0}, "max_num_batched_tokens = 0, expected at least 1"),
        ({"max_num_seqs": 0}, "max_num_seqs = 0, expected at least 1"),
        ({"num_gpu_blocks": 0}, "num_gpu_blocks = 0, expected at least 1"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        ledger("llama-3-8b", "a100", **setting)


def test_more_than_is_free_at_start_is_refused():
    assert ledger("llama-3-8b", "a100", gpu_memory_utilization=0.99).fits
    with pytest.raises(
        DoesNotFitError,
        match=r"gpu_memory_utilization = 1 of a100-80gb-sxm is more than the 78.75 GiB that are "
        r"free when the engine starts, expected at most 0.99",
    ):
        ledger("llama-3-8b", "a100", gpu_memory_utilization=1.0)


def test_a_sequence_longer_than_the_pool_is_refused_with_the_longest_that_fits():
    few = {"gpu_memory_utilization": 0.25}
    longest = ledger("llama-3-8b", "a100", **few).kv_tokens
    assert ledger("llama-3-8b", "a100", **few, max_model_len=longest).kv_tokens == longest
    with pytest.raises(
        DoesNotFitError,
        match=rf"max_model_len = {longest + 1} does not fit in the KV cache of llama-3-8b on "
        rf"a100-80gb-sxm at tensor_parallel_size = 1, expected at most {longest}: set "
        rf"engine.max_model_len: {longest} or less",
    ) as error:
        ledger("llama-3-8b", "a100", **few, max_model_len=longest + 1)
    assert str(error.value).endswith("smallest tensor_parallel_size that fits on a100-80gb-sxm: 2")
    # Blocks that are given are not the ledger's business; nor are positions behind a window.
    assert ledger("llama-3-8b", "a100", max_model_len=8192, num_gpu_blocks=10).num_gpu_blocks == 10
    spec = changed(load_spec("llama-3-8b"), sliding_window=512)
    tight = {"precision": BF16, "max_num_batched_tokens": 512, "max_num_seqs": 8}
    memory_ledger(
        MemoryDemand(spec=spec, gpu=load_gpu("a100"), **tight, **few, max_model_len=longest + 1)
    )


def test_key_value_heads_are_repeated_beyond_their_number():
    """Llama-3-70B has 8: at 8 ranks each keeps one, at 16 still one."""
    gpu = {"like": "h100", "gpus_per_server": 16}
    eight, sixteen = (ledger("llama-3-70b", gpu, tp=tp) for tp in (8, 16))
    assert eight.block_bytes == sixteen.block_bytes == 2 * 80 * 128 * 2 * 16


def test_quantization_shrinks_weights_and_cache():
    half = ledger("llama-3-8b", "h100", precision=precision("bfloat16", "fp8", "fp8"))
    full = ledger("llama-3-8b", "h100")
    assert half.block_bytes * 2 == full.block_bytes
    spec = load_spec("llama-3-8b")
    scales = 4 * 32 * 7  # of query, key, value, output, gate, up and down in every layer
    assert full.weights_bytes - half.weights_bytes == spec.linear_parameters() - scales


def test_latent_attention_keeps_a_copy_of_what_is_quantized():
    """DeepSeek-V3 on 8 ranks: 16 heads of 128 + 128 numbers from 512 latent ones, 61 layers."""
    spec = load_spec("deepseek-v3")
    fp8 = spec.checkpoint.weights
    copies = 61 * 512 * 16 * (128 + 128) * 2
    assert unpacked_bytes(spec, precision=precision(quantization=fp8), tp=8) == copies
    assert unpacked_bytes(spec, precision=BF16, tp=8) == 0
    entry = ledger("deepseek-v3", "h200", precision=precision(quantization=fp8), tp=8)
    held = rank_weight_bytes(spec, precision=precision(quantization=fp8), tp=8)
    assert entry.weights_bytes == int(held) + copies


@pytest.mark.parametrize(
    ("gpu", "version", "more"),
    [
        ("h100", "0.14.1", 320 * 90 + 8640 * 90 + 8640 * 2),  # a second copy of the scales
        ("h100", "0.25", 320 * 90 + 8640 * 2),  # outputs of 5,888 and 3,072; biases in float32
        ("a100", "0.14.1", 0),  # Marlin
    ],
)
def test_scales_in_the_order_of_tritons_kernel(gpu: str, version: str, more: int) -> None:
    """gpt-oss-120b on an H100: 64.38 GiB in a log of 0.14.1 (vllm-project/vllm issue 33155)."""
    spec, card = load_spec("gpt-oss-120b"), load_gpu(gpu)
    numbers = runnable(precision(quantization=spec.checkpoint.weights), card)
    entry = ledger("gpt-oss-120b", gpu, precision=numbers, version=version)
    held = rank_weight_bytes(spec, precision=numbers)
    assert entry.weights_bytes - int(held) == 36 * 128 * more
    if version == "0.14.1" and gpu == "h100":
        logged = (entry.weights_bytes + entry.rotary_table_bytes) / GIB
        assert logged == pytest.approx(64.38, rel=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4]),
    utilization=st.floats(0.5, 0.94),
    tokens=st.integers(128, 32768),
    seqs=st.integers(128, 512),
)
def test_more_of_anything_else_is_less_for_the_cache(tp, utilization, tokens, seqs):
    # Fewer than 128 rows of logits are sorted in larger buffers.
    def blocks(**changes):
        values = {"tp": tp, "gpu_memory_utilization": utilization}
        values |= {"max_num_batched_tokens": tokens, "max_num_seqs": seqs}
        return ledger("llama-3-8b", "a100", **(values | changes)).num_gpu_blocks

    here = blocks()
    assert blocks(gpu_memory_utilization=utilization + 0.05) >= here
    assert blocks(max_num_batched_tokens=2 * tokens) <= here
    assert blocks(max_num_seqs=2 * seqs) <= here
    assert blocks(tp=2 * tp) > here


@pytest.mark.parametrize(("gpu", "pp"), [("t4", 2), ("t4", 4), ("l4", 2)])
def test_a_remedy_is_one_that_servers_make_with_the_stages_there(gpu: str, pp: int) -> None:
    with pytest.raises(DoesNotFitError) as error:
        ledger("llama-3-70b", gpu, pp=pp)
    words = str(error.value).splitlines()[-1].split()
    if "catalogue" in words:
        assert ledger("llama-3-70b", words[-1], pp=pp).num_gpu_blocks > 0
    else:
        assert ledger("llama-3-70b", gpu, pp=pp, tp=int(words[-1])).num_gpu_blocks > 0
