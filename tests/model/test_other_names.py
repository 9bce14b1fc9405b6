"""Keys under other names, and keys that a family's code does not read, as transformers has them."""

from typing import Any

import pytest

from model.families.left_out import LEFT_OUT
from model.families.other_names import OTHER_NAMES
from model.from_config import spec_from_config
from model.spec import ConfigError

LAYERS = {"num_hidden_layers": 4}
NOT_ALONE = {"glm4v_text", "glm4v_moe_text", "glm_ocr_text", "paddleocr_vl_text"} | {
    "ernie4_5_vl_moe_text", "hunyuan_vl_text", "muse_glimmer_text", "qwen3_vl_moe_text", "step3p5",
}  # fmt: skip
"""Language models of wrappers, which transformers builds inside them only."""
OWN_WAY = {"dbrx", "hunyuan_v1_moe", "dots1", "lfm2_moe", "mistral4"}
"""Whose configuration class makes no model of its own defaults."""
TOLD = {"deepseek_v2": {"num_experts_per_tok": 6}, "glm4_moe": {"head_dim": 128}}


def counted(config: dict[str, Any]) -> int:
    """Parameters of what transformers builds of a file."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    read = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(read)
    return sum(parameter.numel() for parameter in model.parameters())


def usual(name: str) -> dict[str, Any]:
    """A small model as transformers writes it, of its configuration class's defaults."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(name, **LAYERS, **TOLD.get(name, {}))
    return {**config.to_dict(), "architectures": None}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_are_those_of_the_configuration_class(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    kind = transformers.CONFIG_MAPPING[name]
    own = OTHER_NAMES[name]
    moved = {"num_experts"} if name in ("deepseek_v32", "glm_moe_dsa") else set()
    assert {other: kind.attribute_map[other] for other in own if other not in moved} == {
        other: key for other, key in own.items() if other not in moved
    }


@pytest.mark.parametrize(
    ("name", "other", "key"),
    [
        (name, other, key)
        for name in sorted(set(OTHER_NAMES) - NOT_ALONE - OWN_WAY)
        for other, key in OTHER_NAMES[name].items()
        if "experts" in other and "per_tok" not in other
    ],
)
def test_as_many_experts_by_another_name(name: str, other: str, key: str) -> None:
    config = usual(name)
    more = {**config, other: 2 * config[key]}
    del more[key]
    assert spec_from_config(more, "x").parameters() == counted(more)
    with pytest.raises(ConfigError, match=f"^x: {other} = .* and {key} = .*: two names of one key"):
        spec_from_config({**config, other: 2 * config[key]}, "x")
    assert spec_from_config({**config, other: config[key]}, "x") == spec_from_config(config, "x")


@pytest.mark.parametrize("name", sorted(set(LEFT_OUT) - NOT_ALONE - OWN_WAY))
def test_a_key_that_is_left_out(name: str) -> None:
    config = usual(name)
    whole = counted(config)
    assert spec_from_config(config, "x").parameters() == whole
    for key in LEFT_OUT[name]:
        less = {other: value for other, value in config.items() if other != key}
        assert spec_from_config(less, "x").parameters() == whole, key


@pytest.mark.parametrize("key", ["num_shared_experts", "num_experts", "num_routed_experts"])
def test_a_name_that_the_class_does_not_know(key: str) -> None:
    config = {**usual("deepseek_v3"), key: 4}
    for own in ("n_routed_experts", "n_shared_experts"):
        del config[own]
    assert spec_from_config(config, "x").parameters() == counted(config)


@pytest.mark.parametrize("name", ["hunyuan_v1_dense", "ernie4_5", "seed_oss"])
def test_dense_models_have_no_experts_whatever_a_file_says(name: str) -> None:
    config = {
        "model_type": name, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 8, "vocab_size": 101, "max_position_embeddings": 50,
    }  # fmt: skip
    assert spec_from_config({**config, "num_experts": 1}, "x") == spec_from_config(config, "x")
