"""Drafters are as large as their publishers say."""

import pytest

from model.drafter import eagle3_head, eagle_head, layer_like, prediction_layer, predicts
from model.precision import precision
from model.spec import load_spec


def test_the_prediction_layer_of_deepseek_v3() -> None:
    """Its README_WEIGHTS: 11.5B parameters beside the shared embedding and head."""
    target = load_spec("deepseek-v3")
    spec = prediction_layer(target).spec
    shared = spec.embedding_parameters() + spec.lm_head_parameters()
    assert spec.parameters() - shared == pytest.approx(11.5e9, rel=0.01)
    assert predicts(target)
    assert not predicts(load_spec("kimi-k2.5"))


def test_heads_of_eagle_written_out() -> None:
    target = load_spec("llama-3.1-8b")
    size, width, kv = 4096, 14336, 1024
    layer = size * (size + 2 * kv) + size * size + 3 * size * width + 2 * size
    numbers = precision("bfloat16")
    one = eagle_head(target, layer_like(target))
    # vLLM's EAGLE has no norm of its own in front of the shared head; here it is counted.
    assert one.weight_bytes(numbers) == 2 * (layer + 2 * size * size + size)
    three = eagle3_head(target, layer_like(target), 32_000)
    more = 3 * size * size + size * (size + 2 * kv) + 2 * size + size
    assert three.weight_bytes(numbers) == 2 * (layer + more + 32_000 * size)


def test_a_head_for_experts_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="expected the head's config"):
        layer_like(load_spec("mixtral-8x7b"))
