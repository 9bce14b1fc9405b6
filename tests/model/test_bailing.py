"""Ling 2.5 and 3 share a ``model_type``: the class tells which of them a file is."""

from typing import Any

import pytest

from model.from_config import spec_from_config
from model.mixers.delta import DeltaRule
from model.mixers.latent import LatentAttention
from model.mixers.lightning import Lightning
from model.spec import UnknownArchitectureError

LING: dict[str, Any] = {
    "model_type": "bailing_hybrid",
    "hidden_size": 64,
    "intermediate_size": 160,
    "moe_intermediate_size": 48,
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 16,
    "vocab_size": 101,
    "max_position_embeddings": 50,
    "layer_group_size": 3,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}


def kinds(architecture: str) -> list[type]:
    spec = spec_from_config(LING | {"architectures": [architecture]}, "tiny")
    return [type(kind.mixer) for kind in spec.in_order()]


def test_a_class_goes_before_a_type_that_two_families_share() -> None:
    """The last of three layers attends, and the seventh, which no whole group holds."""
    first, later = kinds("BailingMoeV2_5ForCausalLM"), kinds("BailingMoeV3ForCausalLM")
    assert first == [Lightning, Lightning, LatentAttention] * 2 + [LatentAttention]
    assert later == [DeltaRule, DeltaRule, LatentAttention] * 2 + [DeltaRule]
    with pytest.raises(UnknownArchitectureError, match=r"but architectures = .*Llama"):
        kinds("LlamaForCausalLM")


def test_lightning_attention_by_hand() -> None:
    spec = spec_from_config(LING | {"architectures": ["BailingMoeV2_5ForCausalLM"]}, "tiny")
    linear = 3 * 64 * 128 + 2 * 64 * 128 + 128 + 2 * 16
    latent = 64 * 32 + 32 + 32 * 8 * 24 + 64 * 32 + 24 + 24 * 8 * 28 + 8 * 12 * 64
    dense, expert = 3 * 64 * 160, 3 * 64 * 48
    sparse = 7 * expert + 6 * 64
    norms, once = 7 * 2 * 64, 2 * 101 * 64 + 64
    assert spec.parameters() == 4 * linear + 3 * latent + dense + 6 * sparse + norms + once
    assert spec.kv_bytes_per_token(2) == 3 * (24 + 8) * 2
    assert spec.state_bytes_per_sequence(2) == 4 * 8 * 16 * 16 * 4
