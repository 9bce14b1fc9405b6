import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.calibration import DATASHEET
from hardware.gpu import UnsupportedPrecisionError, load_gpu
from hardware.prices.modelled import Roofline, efficiencies
from hardware.prices.work import Linear, attention_work, operators_work
from model.ops import decode_attention, prefill_attention, token_operators
from model.precision import precision
from model.sharding import shares
from model.spec import load_spec

BF16 = precision()


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(["llama-3-8b", "gpt2-xl", "qwen3-14b"]),
    kv=st.sampled_from(["auto", "fp8"]),
    fused=st.booleans(),
    chunk=st.integers(1, 4096),
    past=st.integers(0, 30000),
)
def test_attention_is_linear_in_rows_positions_and_pairs(model, kv, fused, chunk, past):
    numbers = precision("bfloat16", None, kv)
    spec = load_spec(model)
    ((kind, share),) = shares(spec, numbers, 1)
    positions = past + chunk
    pairs = chunk * past + chunk * (chunk + 1) / 2 if fused else chunk * positions
    prefill = attention_work(kind.mixer, share, fused=fused, decode=False)
    operators = prefill_attention(spec, chunk, past, precision=numbers, fused=fused)
    for term, operator in zip(prefill, operators, strict=True):
        for amounts, count in ((term.flops, operator.flops), (term.bytes, operator.bytes)):
            assert total(amounts, 1, chunk, pairs, positions) == pytest.approx(
                operator.layers * count, rel=1e-12
            )
    decode = attention_work(kind.mixer, share, fused=fused, decode=True)
    operators = decode_attention(spec, chunk, chunk + past, precision=numbers, fused=fused)
    for term, operator in zip(decode, operators, strict=True):
        for amounts, count in ((term.flops, operator.flops), (term.bytes, operator.bytes)):
            assert total(amounts, chunk, chunk, positions, positions) == pytest.approx(
                operator.layers * count, rel=1e-12
            )


def total(amounts: Linear, *counts: float) -> float:
    return sum(amount * count for amount, count in zip(amounts, counts, strict=True))


def test_a_sum_over_operators_and_layers():
    spec, gpu = load_spec("llama-3-8b"), load_gpu("a100")
    operators = token_operators(spec, np.array([1.0, 512.0]), precision=BF16)
    flops, bytes_ = operators_work(operators)
    seconds = Roofline(gpu, DATASHEET, fused=True).operators_s(operators, spec.num_layers)
    assert seconds.shape == flops.shape == bytes_.shape == (2,)
    by_hand = [
        sum(
            x.layers * max(x.flops[i] / 312e12, x.bytes[i] / 2.039e12)
            for x in token_operators(spec, np.array([1.0, 512.0]), precision=BF16)
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(seconds, by_hand, rtol=1e-12)
    # Below both sums, the price would hide an operator; above their sum it would double one.
    assert np.all(seconds >= np.maximum(flops / 312e12, bytes_ / 2.039e12))
    assert np.all(seconds <= flops / 312e12 + bytes_ / 2.039e12)


def test_efficiencies_by_kind():
    calibration = DATASHEET.model_copy(update={"gemm_flops": 0.5, "elementwise_bytes": 0.25})
    assert efficiencies("gemm", calibration) == (0.5, 1.0)
    assert efficiencies("norm", calibration) == (1.0, 0.25)
    with pytest.raises(ValueError, match="kind = 'attention', expected one of gemm, norm"):
        efficiencies("attention", calibration)


def bare(gpu: str) -> Roofline:
    return Roofline(load_gpu(gpu), DATASHEET, fused=True)


def test_arithmetic_that_the_gpu_lacks():
    spec = load_spec("llama-3-8b")
    with pytest.raises(UnsupportedPrecisionError, match="gpu t4 has no bf16"):
        bare("t4").operators_s(token_operators(spec, 1, precision=BF16), spec.num_layers)
    fp8 = token_operators(spec, 1, precision=precision("bfloat16", "fp8"))
    with pytest.raises(UnsupportedPrecisionError, match="gpu a100-80gb-sxm has no fp8"):
        bare("a100").operators_s(fp8, spec.num_layers)
