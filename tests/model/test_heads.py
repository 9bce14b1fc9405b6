"""Heads that draft tokens: no models of their own, and read where a drafter is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from hardware.gpu import load_gpu
from model.errors import UnknownArchitectureError
from model.spec import load_head, load_spec
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import build_scenario

LAYER: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 1,
    "max_position_embeddings": 2048,
    "vocab_size": 128256,
}


def written(folder: Path, **more: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**LAYER, **more}))
    return path


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"architectures": ["LlamaForCausalLMEagle3"]}, "LlamaForCausalLMEagle3"),
        ({"architectures": ["Eagle3LlamaForCausalLM"]}, "Eagle3LlamaForCausalLM"),
        ({"architectures": ["LlamaForCausalLM"], "draft_vocab_size": 32000}, "draft_vocab_size"),
        ({"architectures": ["DFlashDraftModel"], "model_type": "qwen3"}, "DFlashDraftModel"),
        ({"architectures": ["DeepSeekMTPModel"], "model_type": "deepseek_mtp"}, "MTP"),
        ({"model_type": "medusa"}, "medusa"),
        ({"architectures": ["LlamaForCausalLM"]}, "num_hidden_layers = 1 with hidden_size = 4096"),
    ],
)
def test_a_head_is_no_model(tmp_path: Path, more: dict[str, object], told: str) -> None:
    with pytest.raises(UnknownArchitectureError, match=f"{told}.*a head that drafts tokens"):
        load_spec(written(tmp_path, **more))


def test_one_layer_of_a_small_model_is_a_model(tmp_path: Path) -> None:
    small = {"hidden_size": 1024, "num_attention_heads": 8, "architectures": ["LlamaForCausalLM"]}
    assert load_spec(written(tmp_path, **small)).num_layers == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "SequenceClassification.*scores"),
        ({"architectures": ["Qwen2ForRewardModel"], "model_type": "qwen2"}, "Reward.*scores"),
        ({"architectures": ["LlamaBidirectionalModel"]}, "classifies, scores or embeds"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "models that embed"),
    ],
)
def test_what_generates_nothing_is_no_model(
    tmp_path: Path, more: dict[str, object], told: str
) -> None:
    with pytest.raises(UnknownArchitectureError, match=f"{told}.*expected a model that generates"):
        load_spec(written(tmp_path, num_hidden_layers=32, **more))


def test_a_head_is_read_where_a_drafter_is_asked_for(tmp_path: Path) -> None:
    plain, said = load_head(str(written(tmp_path)))
    assert said is None
    for name in ("LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM", "LlamaForCausalLM"):
        told = {"architectures": [name], "draft_vocab_size": 16000}
        head, said = load_head(str(written(tmp_path, **told).parent))
        assert head.layers == plain.layers
        assert said == 16000
    with pytest.raises(UnknownArchitectureError, match=r"DFlashDraftModel.*EAGLE or EAGLE-3"):
        load_head(str(written(tmp_path, architectures=["DFlashDraftModel"])))


def test_the_head_says_how_many_tokens_it_can_propose(tmp_path: Path) -> None:
    path = written(tmp_path, architectures=["LlamaForCausalLMEagle3"], draft_vocab_size=16000)
    asked = {
        "method": "eagle3", "num_speculative_tokens": 2, "model": str(path),
        "synthetic_acceptance_length": 2.0,
    }  # fmt: skip

    def drafter_bytes(**more: object) -> int:
        engine = EngineConfig.model_validate(
            {"max_model_len": 2048, "speculative": {**asked, **more}}
        )
        gpu = load_gpu("h100-sxm")
        made = build_scenario(load_spec("llama-3.1-8b"), gpu, ClusterConfig(gpu="h100-sxm"), engine)
        return made.pool.ledger.drafter_bytes

    assert drafter_bytes(draft_vocab_size=32000) - drafter_bytes() == 16000 * 4096 * 2
