"""torch's FLOP counter over the real decoder equals the closed forms, to the integer.

On the meta device, at full size: shapes flow, nothing is computed. The counter counts matrix
products only: linear layers, and the two products of standard attention over the full rectangle.
"""

from collections.abc import Sequence

import pytest
import torch
from small_decoders import LLAMA, MISTRAL, QWEN3
from torch.utils.flop_counter import FlopCounterMode

from model.ops import step_operators
from model.precision import precision
from model.spec import DecoderSpec, load_spec
from model.torch.decoder import Decoder

Step = tuple[list[tuple[int, int]], list[int]]
"""Chunks as (tokens, past), and pasts of decoding sequences."""

PREFILL: Step = ([(512, 0)], [])
CHUNKED: Step = ([(256, 700), (1, 9), (64, 0)], [])
DECODE: Step = ([], [0, 3, 100, 1000])
MIXED: Step = ([(384, 128), (100, 0)], [17, 640, 640])
STEPS = {"prefill": PREFILL, "chunked": CHUNKED, "decode": DECODE, "mixed": MIXED}
WHOLE = "llama-3-8b"
NAMES = ("llama-2-7b", WHOLE, "llama-3-70b", "gpt2-xl", "qwen3-14b", "opt-13b")


def counted_flops(
    spec: DecoderSpec, chunks: Sequence[tuple[int, int]], pasts: Sequence[int]
) -> int:
    decoder = Decoder(spec, device="meta", dtype=torch.bfloat16)
    cache = decoder.new_cache(slots=len(chunks) + len(pasts), slot_tokens=1024)
    prefills = [
        (slot, torch.empty(tokens, dtype=torch.int64, device="meta"), past)
        for slot, (tokens, past) in enumerate(chunks)
    ]
    slots = list(range(len(chunks), len(chunks) + len(pasts)))
    fed = torch.empty(len(pasts), dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        logits = decoder.step(cache, prefills, slots, fed, pasts)
    assert logits.shape == (len(chunks) + len(pasts), spec.vocab_size)
    return int(counter.get_total_flops())


def closed_form_flops(
    spec: DecoderSpec, chunks: Sequence[tuple[int, int]], pasts: Sequence[int]
) -> float:
    context_tokens = sum(past + 1 for past in pasts)
    operators = step_operators(
        spec, len(pasts), context_tokens, chunks, precision=precision(), fused=False
    )
    products = ("attn_scores", "attn_value")
    total = sum(
        operator.layers * operator.flops
        for operator in operators
        if operator.kind == "gemm" or operator.name in products
    )
    # An engine's LM head has its vocabulary padded to a multiple of 64, this decoder's has not.
    rows = len(chunks) + len(pasts)
    padding = -spec.vocab_size % 64
    return float(total - 2 * rows * spec.hidden_size * padding)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", NAMES)
def test_full_size_flops(name: str, step: str) -> None:
    """One of them in full depth; layers of the others are alike, and three of them are built."""
    spec = load_spec(name) if name == WHOLE else load_spec(name).first_layers(3)
    chunks, pasts = STEPS[step]
    assert counted_flops(spec, chunks, pasts) == closed_form_flops(spec, chunks, pasts)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("spec", [LLAMA, QWEN3, MISTRAL], ids=lambda spec: spec.name)
def test_small_flops(spec: DecoderSpec, step: str) -> None:
    """A sliding window is counted sequence by sequence here, but on the mean in the closed form."""
    chunks, pasts = STEPS[step]
    if spec.sliding_window is not None:
        pasts = [past for past in pasts if past >= spec.sliding_window]
    if chunks or pasts:
        assert counted_flops(spec, chunks, pasts) == closed_form_flops(spec, chunks, pasts)


def test_prefill_flops_by_hand() -> None:
    """Llama-2-7B, 512 tokens: 2 FLOPs per weight and token, and 4 d per head and pair.

    Matrices of a layer: 4 * 4096^2 + 3 * 4096 * 11008 weights; the LM head on the last row only.
    """
    linear = 2 * 512 * 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    attention = 32 * 32 * 4 * 128 * 512 * 512
    head = 2 * 4096 * 32000
    assert counted_flops(load_spec("llama-2-7b"), *PREFILL) == linear + attention + head
