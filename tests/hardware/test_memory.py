import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.gpu import load_gpu
from hardware.memory import CONTEXT_BYTES, DoesNotFitError, activation_bytes, memory_ledger
from model.precision import precision
from model.spec import load_spec

GIB = 2**30
BF16 = precision()


def ledger(model, gpu, **settings_):
    defaults = {
        "precision": BF16,
        "gpu_memory_utilization": 0.9,
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 256,
    }
    return memory_ledger(load_spec(model), load_gpu(gpu), **(defaults | settings_))


@pytest.mark.parametrize(
    ("model", "tp", "tokens", "seqs", "utilization", "logged"),
    [
        # Blocks of 16 tokens that vLLM logged at start on H100 SXM 80 GB: 0.15.1 (first two, runs
        # published with the BLIS simulator), 0.23.0 (whose default utilization is 0.92).
        ("llama-2-7b", 1, 2048, 128, 0.90, 7462),
        ("codellama-34b", 2, 2048, 128, 0.90, 26602),
        ("qwen3-14b", 1, 8192, 256, 0.92, 18038),
    ],
)
def test_blocks_are_as_many_as_vllm_logs(model, tp, tokens, seqs, utilization, logged):
    entry = ledger(
        model,
        "h100-sxm",
        tp=tp,
        max_num_batched_tokens=tokens,
        max_num_seqs=seqs,
        gpu_memory_utilization=utilization,
    )
    assert entry.num_gpu_blocks == pytest.approx(logged, rel=0.005)


def test_blocks_of_an_a100():
    """vLLM pull request 2031, which measured 7351 at 0.9; it counts more for the runtime."""
    entry = ledger("llama-2-7b", "a100-80gb-sxm", max_num_batched_tokens=4096)
    assert entry.num_gpu_blocks == pytest.approx(7351, rel=0.02)


def test_llama_3_8b_on_an_a100():
    entry = ledger("llama-3-8b", "a100-80gb-sxm")
    assert entry.weights_bytes == load_spec("llama-3-8b").parameters() * 2
    # 2 (keys, values) * 32 layers * 8 heads * 128 * 2 bytes * 16 tokens.
    assert entry.block_bytes == 2 * 2**20
    assert 27_000 < entry.num_gpu_blocks < 28_500
    assert entry.kv_tokens == 16 * entry.num_gpu_blocks
    assert entry.used_bytes <= entry.budget_bytes < entry.used_bytes + entry.block_bytes


def test_activation_peak_inside_the_mlp():
    """8192 tokens of Qwen3-14B: 8192 * (2 * 5120 + 3 * 17408) * 2 bytes = 0.95 GiB."""
    spec = load_spec("qwen3-14b")
    peak = activation_bytes(spec, precision=BF16, tp=1, max_tokens=8192, max_seqs=256)
    assert peak == 8192 * (2 * 5120 + 3 * 17408) * 2


def test_activation_peak_in_the_sampler():
    """256 rows of 128256 logits and 2048 hidden states of Llama-3-8B."""
    spec = load_spec("llama-3-8b")
    peak = activation_bytes(spec, precision=BF16, tp=1, max_tokens=2048, max_seqs=256)
    assert peak == 256 * 128256 * 24 + 2048 * 4096 * 2


def test_activation_peak_of_experts():
    """2048 tokens of Mixtral-8x7B, two experts of width 14336 each."""
    spec = load_spec("mixtral-8x7b")
    peak = activation_bytes(spec, precision=BF16, tp=1, max_tokens=2048, max_seqs=1)
    assert peak == 2048 * (2 * 4096 + 2 * (3 * 14336 + 4096)) * 2


def test_the_ledger_as_text():
    assert ledger("llama-3-8b", "a100").as_text() == (
        "memory of the GPU      79.15 GiB  a100-80gb-sxm\n"
        "budget                 71.23 GiB  gpu_memory_utilization = 0.9\n"
        "- weights              14.96 GiB  llama-3-8b\n"
        "- rotary table          0.00 GiB  cosines and sines of all positions\n"
        "- activations           0.75 GiB  largest step\n"
        "- runtime               0.30 GiB  libraries, collectives\n"
        "= left for KV          55.23 GiB  28275 blocks of 16 tokens, 2 MiB each"
    )


def test_given_blocks_are_taken():
    entry = ledger("llama-3-8b", "a100", num_gpu_blocks=1000)
    assert entry.num_gpu_blocks == 1000
    assert entry.overridden
    assert "KV cache                1.95 GiB  given: 1000 blocks" in entry.as_text()


def test_given_blocks_may_pass_the_utilization_but_not_the_memory():
    usual = ledger("llama-3-8b", "a100")
    spare = usual.total_bytes - CONTEXT_BYTES - usual.used_bytes
    most = usual.num_gpu_blocks + spare // usual.block_bytes
    assert most > usual.num_gpu_blocks
    assert ledger("llama-3-8b", "a100", num_gpu_blocks=most).num_gpu_blocks == most
    with pytest.raises(DoesNotFitError, match=f"num_gpu_blocks = {most + 1} does not fit") as error:
        ledger("llama-3-8b", "a100", num_gpu_blocks=most + 1)
    assert "smallest tensor_parallel_size that fits on a100-80gb-sxm: 2" in str(error.value)


def test_a_refusal_shows_the_ledger_and_the_size_that_fits():
    with pytest.raises(DoesNotFitError, match="llama-3-70b with one KV block does not fit") as e:
        ledger("llama-3-70b", "a100-80gb-sxm")
    message = str(e.value)
    assert "- weights             131.42 GiB" in message
    assert e.value.ledger.as_text() in message
    assert message.endswith("smallest tensor_parallel_size that fits on a100-80gb-sxm: 2")
    assert ledger("llama-3-70b", "a100-80gb-sxm", tp=2).num_gpu_blocks > 0


def test_a_refusal_names_a_larger_gpu_when_no_size_fits():
    with pytest.raises(DoesNotFitError, match="no tensor_parallel_size up to 8 fits on t4") as e:
        ledger("opt-175b", "t4", tp=8)
    assert str(e.value).endswith("smallest GPU of the catalogue that fits at "
                                 "tensor_parallel_size = 8: rtx-6000-ada")  # fmt: skip


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
        match=r"tensor_parallel_size = 16 is more than one server of gpu h100-sxm holds: "
        r"8 share its links \(NVLink 4\), expected at most 8",
    ):
        ledger("llama-3-70b", "h100", tp=16)


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


def test_all_of_the_memory_leaves_room_for_the_process():
    entry = ledger("llama-3-8b", "a100", gpu_memory_utilization=1.0)
    assert entry.budget_bytes == entry.total_bytes - CONTEXT_BYTES


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


@settings(max_examples=30, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4]),
    utilization=st.floats(0.5, 0.95),
    tokens=st.integers(1, 32768),
    seqs=st.integers(1, 512),
)
def test_more_of_anything_else_is_less_for_the_cache(tp, utilization, tokens, seqs):
    def blocks(**changes):
        values = {"tp": tp, "gpu_memory_utilization": utilization}
        values |= {"max_num_batched_tokens": tokens, "max_num_seqs": seqs}
        return ledger("llama-3-8b", "a100", **(values | changes)).num_gpu_blocks

    here = blocks()
    assert blocks(gpu_memory_utilization=utilization + 0.05) >= here
    assert blocks(max_num_batched_tokens=2 * tokens) <= here
    assert blocks(max_num_seqs=2 * seqs) <= here
    assert blocks(tp=2 * tp) > here
