"""The decoder's steps agree with each other and with a numpy decoder, however they are cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy_decoder import numpy_logits
from small_decoders import GPT2, LLAMA, MISTRAL, QWEN3, SHAPES, random_tokens, small_decoder

from model.mlps.experts import Experts
from model.spec import DecoderSpec
from model.torch import step_plan
from model.torch.attention import Kernel
from model.torch.decoder import Decoder, UnsupportedDecoderError, random_decoder
from model.torch.kv_cache import KVCache
from tests.decoders import changed

LENGTHS = (9, 1, 14, 6)


def shape_name(spec: DecoderSpec) -> str:
    return spec.name


def reference(decoder: Decoder, tokens: torch.Tensor) -> np.ndarray:
    weights = {name: value.double().numpy() for name, value in decoder.named_parameters()}
    return numpy_logits(decoder.spec, weights, tokens.tolist())


def assert_close(actual: torch.Tensor, expected: torch.Tensor | np.ndarray) -> None:
    torch.testing.assert_close(
        actual.double(), torch.as_tensor(expected).double(), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("kernel", ["sdpa", "standard"])
@pytest.mark.parametrize("spec", SHAPES, ids=shape_name)
def test_forward_equals_numpy(spec: DecoderSpec, kernel: Kernel) -> None:
    decoder = small_decoder(spec, kernel=kernel)
    tokens = torch.stack(random_tokens(spec, 12, 12))
    logits = decoder(tokens)
    for row in range(2):
        assert_close(logits[row], reference(decoder, tokens[row]))


@pytest.mark.parametrize("spec", SHAPES, ids=shape_name)
def test_float32_is_near_numpy(spec: DecoderSpec) -> None:
    decoder = small_decoder(spec, dtype=torch.float32)
    (tokens,) = random_tokens(spec, 12)
    expected = reference(decoder, tokens)
    scale = np.abs(expected).max()
    error = np.abs(decoder(tokens[None])[0].numpy() - expected).max()
    assert error < 1e-5 * scale


@pytest.mark.parametrize("kernel", ["sdpa", "standard"])
@pytest.mark.parametrize("spec", SHAPES, ids=shape_name)
def test_cache_changes_nothing_at_any_position(spec: DecoderSpec, kernel: Kernel) -> None:
    decoder = small_decoder(spec, kernel=kernel)
    (tokens,) = random_tokens(spec, 15)
    expected = decoder(tokens[None])[0]
    cache = decoder.new_cache(slots=1, slot_tokens=15)
    for past, token in enumerate(tokens):
        logits = decoder.step(cache, (), [0], token[None], [past])
        assert_close(logits[0], expected[past])


@pytest.mark.parametrize("kernel", ["sdpa", "standard"])
@pytest.mark.parametrize("sizes", [(15,), (1, 14), (14, 1), (4, 4, 4, 3), (7, 1, 1, 6)])
@pytest.mark.parametrize("spec", [LLAMA, GPT2, QWEN3, MISTRAL], ids=shape_name)
def test_chunked_prefill_equals_whole(
    spec: DecoderSpec, sizes: tuple[int, ...], kernel: Kernel
) -> None:
    decoder = small_decoder(spec, kernel=kernel)
    (tokens,) = random_tokens(spec, 15)
    expected = decoder(tokens[None])[0]
    cache = decoder.new_cache(slots=3, slot_tokens=20)
    past = 0
    for chunk in torch.split(tokens, list(sizes)):
        logits = decoder.step(cache, [(1, chunk, past)])
        past += len(chunk)
        assert_close(logits[0], expected[past - 1])


@pytest.mark.parametrize("padding_bytes", [0, 256, 10**6])
@pytest.mark.parametrize("kernel", ["sdpa", "standard"])
@pytest.mark.parametrize("spec", [LLAMA, GPT2, QWEN3, MISTRAL], ids=shape_name)
def test_mixed_steps_equal_one_by_one(
    spec: DecoderSpec, kernel: Kernel, padding_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decodes of four lengths in scattered, unsorted slots, beside two chunks, one with past."""
    monkeypatch.setattr(step_plan, "GROUP_PADDING_BYTES", padding_bytes)
    decoder = small_decoder(spec, kernel=kernel)
    sequences = random_tokens(spec, *LENGTHS, 8, 11)
    expected = [decoder(tokens[None])[0] for tokens in sequences]
    slots = [5, 2, 3, 0, 1, 6]
    cache = decoder.new_cache(slots=7, slot_tokens=16)
    prefills = [(slots[i], sequences[i][:-2], 0) for i in range(4) if len(sequences[i]) > 2] + [
        (slots[5], sequences[5][:4], 0)
    ]
    decoder.step(cache, prefills)
    decoding = [i for i in range(4) if len(sequences[i]) > 2]
    for back in (2, 1):
        chunks = [(slots[4], sequences[4], 0), (slots[5], sequences[5][4:], 4)] if back == 1 else []
        here = decoding if back == 2 else [*decoding, 1]
        pasts = [len(sequences[i]) - back for i in here]
        fed = torch.stack([sequences[i][-back] for i in here])
        logits = decoder.step(cache, chunks, [slots[i] for i in here], fed, pasts)
        rows = [expected[i][past] for i, past in zip(here, pasts, strict=True)]
        if chunks:
            rows = [expected[4][-1], expected[5][-1], *rows]
        assert_close(logits, torch.stack(rows))


def test_prefill_fills_slots_in_order() -> None:
    decoder = small_decoder(LLAMA)
    tokens = torch.stack(random_tokens(LLAMA, 6, 6, 6))
    cache = decoder.new_cache(slots=3, slot_tokens=8)
    assert_close(decoder.prefill(cache, tokens), decoder(tokens)[:, -1])
    longer = torch.cat((tokens, tokens[:, :1]), dim=1)
    logits = decoder.step(cache, (), torch.arange(3), longer[:, -1], torch.full((3,), 6))
    assert_close(logits, decoder(longer)[:, -1])


def test_a_moved_slot_decodes_the_same() -> None:
    decoder = small_decoder(LLAMA)
    (tokens,) = random_tokens(LLAMA, 9)
    cache = decoder.new_cache(slots=4, slot_tokens=9)
    decoder.step(cache, [(3, tokens[:8], 0)])
    cache.move(3, 1, 8)
    cache.move(1, 1, 8)
    cache.layers[0][0][:, 27:] = float("nan")
    logits = decoder.step(cache, (), [1], tokens[8:], [8])
    assert_close(logits, decoder(tokens[None])[:, -1])


def test_a_reused_slot_does_not_see_its_last_tenant() -> None:
    decoder = small_decoder(MISTRAL)
    old, new = random_tokens(MISTRAL, 16, 5)
    cache = decoder.new_cache(slots=2, slot_tokens=16)
    decoder.step(cache, [(0, old, 0), (1, old[:12], 0)])
    decoder.step(cache, [(0, new[:4], 0)])
    logits = decoder.step(cache, (), [0, 1], torch.stack((new[4], old[12])), [4, 12])
    assert_close(logits[0], decoder(new[None])[0, -1])


@pytest.mark.parametrize("spec", SHAPES, ids=shape_name)
def test_parameters_are_as_the_spec_counts(spec: DecoderSpec) -> None:
    decoder = random_decoder(spec, device="meta")
    assert sum(parameter.numel() for parameter in decoder.parameters()) == spec.parameters()
    cut = random_decoder(spec, num_layers=1, device="meta")
    assert sum(p.numel() for p in cut.parameters()) == spec.first_layers(1).parameters()
    assert cut.spec.num_layers == 1


def test_cache_size_is_as_the_spec_counts() -> None:
    cache = KVCache(LLAMA, 3, 10, dtype=torch.bfloat16)
    assert cache.size_bytes == 30 * LLAMA.kv_bytes_per_token(2)


def test_random_weights_follow_the_seed() -> None:
    first, again, other = (random_decoder(GPT2, seed=seed) for seed in (3, 3, 4))
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        if a.ndim == 2:
            assert not torch.equal(a, c), name
            assert a.std().item() == pytest.approx(0.02, rel=0.1), name
        else:
            expected = 1.0 if name.endswith("norm.weight") else 0.0
            assert (a == expected).all(), name


def test_bfloat16_runs_and_is_near_float64() -> None:
    decoder = small_decoder(LLAMA, dtype=torch.bfloat16)
    (tokens,) = random_tokens(LLAMA, 12)
    expected = reference(decoder, tokens)
    logits = decoder(tokens[None])[0]
    assert logits.dtype == torch.bfloat16
    error = np.linalg.norm(logits.double().numpy() - expected) / np.linalg.norm(expected)
    assert error < 0.03


def test_experts_are_refused() -> None:
    experts = Experts(hidden_size=32, num_experts=4, per_token=2, width=16)
    spec = replace(LLAMA, name="moe", layers=(replace(LLAMA.layers[0], mlp=experts),))
    with pytest.raises(UnsupportedDecoderError, match=r"moe: num_experts\(=4\) must be 0.*mistral"):
        Decoder(spec)


def test_impossible_decoders_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_layers\(=0\) must be >= 1"):
        Decoder(LLAMA, num_layers=0)
    with pytest.raises(ValueError, match=r"head_dim\(=7\) must be even"):
        Decoder(changed(LLAMA, head_dim=7))
    with pytest.raises(ValueError, match=r"slots\(=0\) and slot_tokens\(=4\) must be >= 1"):
        KVCache(LLAMA, 0, 4)


def test_impossible_steps_are_refused() -> None:
    decoder = small_decoder(GPT2)
    cache = decoder.new_cache(slots=2, slot_tokens=80)
    one, many = torch.tensor([1]), torch.ones(65, dtype=torch.int64)
    with pytest.raises(ValueError, match="at least one chunk or one decoding"):
        decoder.step(cache)
    with pytest.raises(ValueError, match=r"differ in length: 2, 1, 2"):
        decoder.step(cache, (), [0, 1], one, [0, 0])
    with pytest.raises(ValueError, match=r"slot 0: tokens\(=0\) must be >= 1"):
        decoder.step(cache, [(0, one[:0], 0)])
    with pytest.raises(ValueError, match=r"past\(=-1\) >= 0"):
        decoder.step(cache, (), [0], one, [-1])
    with pytest.raises(ValueError, match="slot 1 is used twice"):
        decoder.step(cache, [(1, one, 0)], [1], one, [3])
    with pytest.raises(ValueError, match=r"slot\(=2\) must be in 0\.\.1"):
        decoder.step(cache, [(2, one, 0)])
    with pytest.raises(ValueError, match=r"slot 0 would hold 81 tokens; slot_tokens\(=80\)"):
        decoder.step(cache, (), [0], one, [80])
    with pytest.raises(ValueError, match=r"65 tokens is longer than max_position_embeddings\(=64"):
        decoder.step(cache, [(0, many, 0)])
    with pytest.raises(ValueError, match=r"shape \(65,\); expected \[sequences, length\]"):
        decoder(many)
    with pytest.raises(ValueError, match="65 tokens is longer"):
        decoder(many[None])
