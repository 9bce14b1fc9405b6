"""FLOPs and bytes of attention, by formulas and by enumeration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ops import causal_pairs, decode_attention, prefill_attention
from model.precision import precision
from model.spec import load_spec
from tests.decoders import changed
from tests.model.small_steps import BF16, LLAMA_3_70B, ONE_HEAD, step_bytes, step_flops


def test_standard_prefill_of_one_head() -> None:
    # Two products of 2 N^2 d and a softmax of 3 N^2; 2 bytes for each of q k v o (4 N d) and for
    # scores and probabilities, written and read (4 N^2): (4d + 3) N^2 / 8N (N + d) = 57.2.
    n, d = 1024, 128
    operators = prefill_attention(ONE_HEAD, n, 0, precision=BF16, fused=False)
    assert [op.name for op in operators] == ["attn_scores", "attn_softmax", "attn_value"]
    assert step_flops(operators) == n * n * (4 * d + 3)
    assert step_bytes(operators) == 8 * n * (n + d)
    assert step_flops(operators) / step_bytes(operators) == pytest.approx(57.2, abs=0.05)
    scores, softmax, value = operators
    assert scores.bytes == 2 * n * d + 2 * n * d + 2 * n * n
    assert softmax.bytes == 2 * n * n + 2 * n * n
    assert value.bytes == 2 * n * n + 2 * n * d + 2 * n * d


def test_standard_decode_of_one_head() -> None:
    n, d = 1024, 128
    operators = decode_attention(ONE_HEAD, 1, n, precision=BF16, fused=False)
    assert step_flops(operators) == n * (4 * d + 3)
    assert step_bytes(operators) == 4 * (n * d + d + 2 * n)
    assert step_flops(operators) / step_bytes(operators) == pytest.approx(0.99, abs=0.005)


def test_fused_prefill_of_one_head() -> None:
    n, d = 1024, 128
    (op,) = prefill_attention(ONE_HEAD, n, 0, precision=BF16)
    assert op.flops == n * (n + 1) / 2 * (4 * d + 3)
    assert op.activation_bytes == 2 * (2 * n * d)  # q read, o written
    assert op.kv_bytes == 2 * (2 * n * d) + 2 * (2 * n * d)  # k and v read, k and v stored


def test_fused_decode_reads_the_whole_cache_once() -> None:
    decodes, context = 8, 8 * 1000
    (op,) = decode_attention(LLAMA_3_70B, decodes, context, precision=BF16)
    assert op.flops == 64 * context * (4 * 128 + 3)
    assert op.layers * op.kv_bytes == LLAMA_3_70B.kv_bytes_per_token(2) * (context + decodes)
    assert op.activation_bytes == 2 * 2 * decodes * 64 * 128


def test_fp8_cache_halves_the_kv_traffic_only() -> None:
    eight = precision(kv_cache_dtype="fp8")
    (wide,) = decode_attention(LLAMA_3_70B, 4, 400, precision=BF16)
    (narrow,) = decode_attention(LLAMA_3_70B, 4, 400, precision=eight)
    assert narrow.kv_bytes == wide.kv_bytes / 2
    assert narrow.activation_bytes == wide.activation_bytes


@given(chunks=st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_chunks_of_a_prompt_have_the_pairs_of_the_whole(chunks: list[int]) -> None:
    past, pairs = 0, 0.0
    for chunk in chunks:
        pairs += float(causal_pairs(chunk, past))
        past += chunk
    assert pairs == causal_pairs(sum(chunks), 0) == past * (past + 1) / 2


@given(chunk=st.integers(0, 60), past=st.integers(0, 60), window=st.integers(1, 70))
def test_windowed_pairs_and_positions_by_enumeration(chunk: int, past: int, window: int) -> None:
    spec = changed(ONE_HEAD, sliding_window=window)
    attended = [
        set(range(max(0, query + 1 - window), query + 1)) for query in range(past, past + chunk)
    ]
    assert causal_pairs(chunk, past, window) == sum(len(keys) for keys in attended)
    (op,) = prefill_attention(spec, chunk, past, precision=BF16)
    positions = len(set().union(*attended))
    assert op.flops == sum(len(keys) for keys in attended) * (4 * 128 + 3)
    assert op.kv_bytes == 2 * 2 * 128 * (positions + chunk)


def test_window_caps_the_mean_context_of_decodes() -> None:
    mistral = load_spec("mistral-7b")
    unbounded = changed(mistral, sliding_window=None)
    for fused in (True, False):
        at_window = decode_attention(unbounded, 4, 4 * 4096, precision=BF16, fused=fused)
        beyond = decode_attention(mistral, 4, 4 * 9000, precision=BF16, fused=fused)
        assert step_flops(beyond) == step_flops(at_window)
        assert step_bytes(beyond) == step_bytes(at_window)
        below = decode_attention(mistral, 4, 4 * 100, precision=BF16, fused=fused)
        assert below == decode_attention(unbounded, 4, 4 * 100, precision=BF16, fused=fused)


def test_window_caps_the_standard_rectangle() -> None:
    mistral = changed(ONE_HEAD, sliding_window=100)
    scores = prefill_attention(mistral, 10, 500, precision=BF16, fused=False)[0]
    assert scores.flops == 2 * 128 * 10 * (10 + 99)
