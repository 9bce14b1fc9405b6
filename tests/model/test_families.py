"""Parameters of small configs of every family, against the modelling code of transformers."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigError
from model.families import (
    gpt_rows,
    layernorm_rows,
    left_out,
    llama_rows,
    mixture_rows,
    registry,
)
from model.from_config import spec_from_config
from model.spec import CATALOGUE
from tests.model.family_cases import (
    ALIKE,
    CASES,
    DEEPSEEK,
    GPT,
    PUBLISHED,
    ROUTED,
    SHAPES,
    SMALL,
)

ALIKE |= {
    "ernie4_5_vl_moe_text", "glm4v_moe_text", "glm4v_text", "glm_ocr_text", "muse_glimmer_text",
    "paddleocr_vl_text", "hunyuan_vl_text",
}  # fmt: skip
"""And inside wrappers, see test_wrappers.py."""
"""Types that differ from others by their name only."""
EACH = [(name, i) for name, settings in CASES.items() for i in range(len(settings))]


@pytest.mark.parametrize(("name", "which"), EACH)
def test_parameters_equal_those_of_transformers(name: str, which: int) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    told = CASES[name][which]
    own = {} if "vocab_size" in told else SMALL
    config = transformers.AutoConfig.for_model(name, **{**own, **told})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    expected = sum(parameter.numel() for parameter in model.parameters())
    written = {"model_type": name, **own, **told}
    assert spec_from_config(written, "tiny").parameters() == expected
    # The file that transformers itself would write says the same.
    saved = {**config.to_dict(), "architectures": [type(model).__name__]}
    assert spec_from_config(saved, "tiny").parameters() == expected


W, F = 8, None


@pytest.mark.parametrize(
    ("name", "told", "windows"),
    [
        ("dots1", {"sliding_window": W}, [F, F, F, F]),
        ("dots1", {"sliding_window": W, "use_sliding_window": True, "max_window_layers": 1},
         [F, W, W, W]),
        ("smollm3", {"sliding_window": W}, [F, F, F, F]),
        ("smollm3", {"sliding_window": W, "use_sliding_window": True}, [F, F, F, W]),
        ("smollm3", {"sliding_window": W, "layer_types": ["sliding_attention"] * 4}, [W] * 4),
        ("mistral", {"sliding_window": W}, [W, W, W, W]),
        ("mistral", {"sliding_window": W, "layer_types": ["full_attention"] * 4}, [F] * 4),
        ("phi3", {"sliding_window": W}, [W, W, W, W]),
        ("gemma4_unified_text", {}, [1024, 1024, 1024, F]),
        ("muse_glimmer_text", {"sliding_window": W}, [W, W, W, F]),
    ],
)  # fmt: skip
def test_which_layers_have_a_window(
    name: str, told: dict[str, Any], windows: list[int | None]
) -> None:
    """As the configuration classes of transformers have it, or vLLM's Llama (``layer_types``)."""
    routed = DEEPSEEK if name == "dots1" else {}
    spec = spec_from_config({"model_type": name, **SMALL, **routed, **told}, "x")
    assert [kind.mixer.caches[0].window for kind in spec.in_order()] == windows


@pytest.mark.parametrize("name", left_out.LEFT_OUT)
def test_keys_that_a_file_leaves_out(name: str) -> None:
    """The table is what the configuration classes of transformers say."""
    transformers = pytest.importorskip("transformers")
    usual = transformers.AutoConfig.for_model(name)
    told = left_out.LEFT_OUT[name]
    assert told == {key: getattr(usual, key, 0) for key in told}
    assert left_out.filled(name, {}) == told
    assert left_out.filled(name, dict.fromkeys(told, 1)) == dict.fromkeys(told, 1)
    assert left_out.filled(name, dict.fromkeys(told)) == dict.fromkeys(told)


def test_a_mixture_that_leaves_out_its_experts() -> None:
    config = {"model_type": "glm4_moe", **SMALL, **ROUTED, "first_k_dense_replace": 1}
    spec = spec_from_config(config, "x")
    assert [kind.mlp.num_experts for kind in spec.in_order()] == [0, 128, 128, 128]
    fewer = spec_from_config(config | {"num_local_experts": 4}, "x")
    assert fewer.num_experts == 4
    assert spec_from_config(config | {"num_experts": 4}, "x") == spec
    none = spec_from_config(config | {"n_routed_experts": None}, "x")
    assert none.num_experts == 0


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_follow_from_the_shape(name: str) -> None:
    expected, config = SHAPES[name]
    assert spec_from_config({"model_type": name, **config}, name).parameters() == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_ones(name: str) -> None:
    expected, config = PUBLISHED[name]
    assert spec_from_config(config, name).parameters() == expected


def test_dense_layers_stand_between_those_with_experts() -> None:
    config = {"model_type": "ernie4_5_moe", **SMALL, "moe_num_experts": 6, "moe_k": 2}
    few = {**config, "moe_layer_start_index": 1, "moe_layer_end_index": 2}
    assert [kind.mlp.num_experts for kind in spec_from_config(few, "x").in_order()] == [0, 6, 6, 0]


def block(attention: dict[str, Any], ffn: dict[str, Any]) -> dict[str, Any]:
    return {"attention": attention, "ffn": ffn}


NAS: dict[str, Any] = {
    **SMALL,
    "model_type": "nemotron-nas",
    "intermediate_size": None,
    "num_key_value_heads": None,
    "hidden_size": 384,
    "head_dim": 16,
    "num_attention_heads": 24,
    "block_configs": [
        block({"n_heads_in_group": 8}, {"ffn_mult": 1.0}),
        block({"no_op": True}, {"ffn_mult": 2.5}),
        block({"n_heads_in_group": 4}, {"no_op": True}),
        block({"n_heads_in_group": 8}, {"intermediate_size": 512}),
    ],
}


def test_layers_pruned_one_by_one() -> None:
    """Three KV heads, no attention, six, three; MLPs of 256, 768, none and 512."""
    spec = spec_from_config(NAS, "pruned")
    mixers = 384 * 16 * ((24 + 6 + 24) + (24 + 12 + 24) + (24 + 6 + 24))
    mlps = 3 * 384 * (256 + 768 + 512)
    norms = (2 + 1 + 1 + 2 + 1) * 384
    assert spec.parameters() == mixers + mlps + norms + 2 * 101 * 384
    assert spec.kv_bytes_per_token(2) == 2 * 2 * 16 * (3 + 6 + 3)
    assert [kind.parts for kind in spec.in_order()] == [2, 1, 1, 2]


def test_kv_heads_layer_by_layer() -> None:
    """As DeciLM-7B has them."""
    heads = [4] * 32
    small = {**SMALL, "model_type": "deci", "num_key_value_heads_per_layer": [4, 2, 1, 8]}
    spec = spec_from_config(small, "deci")
    assert spec.kv_bytes_per_token(2) == 2 * 2 * 8 * (4 + 2 + 1 + 8)
    with pytest.raises(ConfigError, match="has 32 entries: expected num_hidden_layers = 4"):
        spec_from_config({**small, "num_key_value_heads_per_layer": heads}, "deci")


def test_some_layers_do_not_rotate() -> None:
    spec = spec_from_config({"model_type": "smollm3", **SMALL}, "x")
    assert [kind.mixer.rotary is None for kind in spec.in_order()] == [False] * 3 + [True]
    assert len(spec.rotary_tables) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bloom", "n_head": 8, "n_layer": 3, "vocab_size": 9}, "hidden_size is mis"),
        ({"model_type": "gptj", **GPT, "n_layer": "3"}, "n_layer = '3': expected a valid integer"),
        ({"model_type": "gptj", **GPT, "n_embd": "64"}, "n_embd = '64': expected an integer"),
        ({"model_type": "glm4_moe", **SMALL, **DEEPSEEK, "num_experts_per_tok": 7}, "at most .* 6"),
        ({"model_type": "mpt", "attn_config": {"alibi": False}}, "learned positions of MPT"),
        ({"model_type": "mpt", "attn_config": 3}, "attn_config = '3': expected a mapping"),
        ({"model_type": "smollm3", **SMALL, "no_rope_layers": [1]}, "no_rope_layers has 1 entry:"),
        ({"model_type": "smollm3", **SMALL, "no_rope_layer_interval": 0}, "interval = 0: expected"),
        (
            {"model_type": "dots1", **SMALL, **DEEPSEEK, "moe_layer_freq": 0},
            "moe_layer_freq = 0: expected an integer of at least 1",
        ),
        (
            {"model_type": "cohere2_moe", **SMALL, "sliding_window_pattern": 0},
            "sliding_window_pattern = 0: expected greater than 0",
        ),
        (
            {"model_type": "helium", **SMALL, "head_dim": 16},
            "head_dim = 16: expected 8, so that 8 attention heads are as wide as hidden_size = 64",
        ),
        (
            {**NAS, "block_configs": [block({"replace_with_linear": True}, {"no_op": True})] * 4},
            "replace_with_linear is not modelled",
        ),
        ({"model_type": "arctic", **SMALL}, "moe_layer_frequency = 2: expected 1"),
        (
            {
                "model_type": "mistral",
                **SMALL,
                "layer_types": ["full_attention", "sliding_attention"] * 2,
            },
            "layer_types has 'full_attention' and 'sliding_attention': expected",
        ),
        ({**NAS, "block_configs": []}, "block_configs has 0 entries: expected num_hidden"),
        (
            {**NAS, "block_configs": [block({}, {})]},
            "block_configs has 1 entry: expected num_hidden",
        ),
        ({**NAS, "block_configs": [block({}, {})] * 4}, "expected ffn_mult or intermediate_size"),
        (
            {"model_type": "starcoder2", **SMALL, "layer_types": ["chunked"] * 4},
            "layer_types has 'chunked': expected full_attention or",
        ),
    ],
)
def test_files_that_are_wrong(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec_from_config(config, "tiny")


def test_every_family_has_a_case() -> None:
    told = {config["model_type"] for _, config in PUBLISHED.values()}
    assert {*CASES, *told, *SHAPES} >= {
        *llama_rows.ROWS,
        *layernorm_rows.ROWS,
        *gpt_rows.ROWS,
        *mixture_rows.ROWS,
    } - ALIKE


def test_every_file_of_families_has_a_case() -> None:
    """A config here, or one of the catalogue, whose parameters are counted."""
    here = Path(__file__)
    files = [*here.parent.glob("*.py"), *CATALOGUE.glob("*.json")]
    words = "".join(path.read_text(encoding="utf-8") for path in files if path != here)
    tried = {
        name
        for name, family in registry.FAMILIES.items()
        if f'"{name}"' in words or f'"{family.class_name}"' in words
    }
    assert {registry.MODULES[name] for name in tried} == set(registry.MODULES.values())


def test_every_row_of_a_file_of_families_is_registered() -> None:
    rows = {
        model_type: path.stem
        for path in Path(registry.__file__).parent.glob("*.py")
        for model_type in getattr(import_module(f"model.families.{path.stem}"), "FAMILIES", {})
        if path.stem != "registry"
    }
    assert rows.items() <= registry.MODULES.items()
    classes = [family.class_name for family in registry.FAMILIES.values()]
    assert len(classes) == len(registry.FAMILIES)
