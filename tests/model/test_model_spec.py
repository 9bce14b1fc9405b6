"""Shapes read from config files, exact parameter counts, and what malformed files say."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.alike import dense_of
from model.from_config import spec_from_config
from model.mixers.attention import Attention
from model.mixers.mixer import Rotary
from model.mlps.dense import Dense
from model.norm import Norm
from model.quantization.checkpoint import Checkpoint
from model.shape import Embedding, Head, Layers
from model.spec import ConfigError, DecoderSpec, catalogue, load_spec
from tests.model.catalogue_counts import COUNTED, PUBLISHED_PARAMETERS

TINY_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 50,
}
TINY_QWEN_MOE = {
    **TINY_LLAMA,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
}
TINY_OPT: dict[str, Any] = {
    "model_type": "opt",
    "hidden_size": 64,
    "ffn_dim": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "vocab_size": 101,
    "max_position_embeddings": 50,
}
TINY_GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 64,
    "n_head": 8,
    "n_layer": 3,
    "n_positions": 50,
    "vocab_size": 101,
}
TINY = {
    "llama": TINY_LLAMA,
    "llama, biased, tied": {
        **TINY_LLAMA,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "mistral, wide heads": {**TINY_LLAMA, "model_type": "mistral", "head_dim": 16},
    "qwen2": {**TINY_LLAMA, "model_type": "qwen2"},
    "qwen3": {**TINY_LLAMA, "model_type": "qwen3", "head_dim": 16},
    "qwen3, biased": {**TINY_LLAMA, "model_type": "qwen3", "head_dim": 8, "attention_bias": True},
    "gpt2": TINY_GPT2,
    "gpt2, narrow, untied": {**TINY_GPT2, "n_inner": 96, "tie_word_embeddings": False},
    "opt": TINY_OPT,
    "opt, unbiased": {**TINY_OPT, "enable_bias": False},
    "mixtral": {**TINY_LLAMA, "model_type": "mixtral", "num_local_experts": 6},
    "qwen2_moe": {
        **TINY_QWEN_MOE,
        "model_type": "qwen2_moe",
        "shared_expert_intermediate_size": 80,
    },
    "qwen2_moe, unbiased": {
        **TINY_QWEN_MOE,
        "model_type": "qwen2_moe",
        "shared_expert_intermediate_size": 80,
        "qkv_bias": False,
    },
    "qwen3_moe": {**TINY_QWEN_MOE, "model_type": "qwen3_moe", "head_dim": 16},
    "qwen3_moe, partly dense": {
        **TINY_QWEN_MOE,
        "model_type": "qwen3_moe",
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
        "num_hidden_layers": 4,
    },
    "phi3": {**TINY_LLAMA, "model_type": "phi3", "pad_token_id": 0},
    "llama4_text": {
        **TINY_LLAMA,
        "model_type": "llama4_text",
        "head_dim": 16,
        "num_local_experts": 6,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
        "pad_token_id": 0,
    },
    "llama4_text, partly dense": {
        **TINY_LLAMA,
        "model_type": "llama4_text",
        "head_dim": 16,
        "num_local_experts": 6,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "intermediate_size_mlp": 96,
        "pad_token_id": 0,
    },
}


def spec_of(**changes: Any) -> DecoderSpec:
    return spec_from_config({**TINY_LLAMA, **changes}, "tiny")


@pytest.mark.parametrize(("name", "parameters"), {**PUBLISHED_PARAMETERS, **COUNTED}.items())
def test_parameter_count_equals_the_published_one(name: str, parameters: int) -> None:
    assert load_spec(name).parameters() == parameters


def test_every_model_of_the_catalogue_has_a_golden_count() -> None:
    assert set(catalogue()) == {*PUBLISHED_PARAMETERS, *COUNTED, "opt-13b", "opt-175b"}


@pytest.mark.parametrize(("name", "layers", "h"), [("opt-13b", 40, 5120), ("opt-175b", 96, 12288)])
def test_opt_parameters_from_its_shape(name: str, layers: int, h: int) -> None:
    # Zhang et al. 2022, table 1. 12 h^2 of matrices, 9 h of biases and 4 h of norms in a layer;
    # 50272 tokens and 2050 position rows; the final norm.
    expected = layers * (12 * h * h + 13 * h) + (50272 + 2050) * h + 2 * h
    assert load_spec(name).parameters() == expected


@pytest.mark.parametrize("case", TINY)
def test_parameter_count_equals_that_of_transformers(case: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    settings = dict(TINY[case])
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert spec_from_config(TINY[case], "tiny").parameters() == expected
    # The file that transformers itself would write says the same.
    saved = {**config.to_dict(), "architectures": [type(model).__name__]}
    assert spec_from_config(saved, "tiny").parameters() == expected


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        # 2 * layers * kv_heads * head_dim * 2 bytes: 128 KiB, 320 KiB, 512 KiB, 4.5 MiB a token.
        ("llama-3-8b", 131_072),
        ("llama-3-70b", 327_680),
        ("llama-2-7b", 524_288),
        ("opt-175b", 4_718_592),
    ],
)
def test_kv_bytes_per_token(name: str, kv_bytes: int) -> None:
    assert load_spec(name).kv_bytes_per_token(2) == kv_bytes
    assert load_spec(name).kv_bytes_per_token(1) == kv_bytes / 2


def test_active_parameters_leave_the_idle_experts_out() -> None:
    # Jiang et al. 2024: Mixtral 8x7B uses 13B active parameters of its 47B.
    assert load_spec("mixtral-8x7b").active_parameters() == 12_879_925_248
    assert load_spec("llama-3-8b").active_parameters() == 8_030_261_248


def test_llama_3_8b_is_read_completely() -> None:
    norm = Norm("rmsnorm", 1e-5, 4096)
    attention = Attention(
        hidden_size=4096,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        sliding_window=None,
        rotary=Rotary(500_000.0, 8192, 128),
        qkv_bias=False,
        output_bias=False,
        qk_norm=False,
    )
    mlp = Dense(hidden_size=4096, width=14336, gated=True, activation="silu", bias=False)
    assert load_spec("llama-3-8b") == DecoderSpec(
        name="llama-3-8b",
        architecture="llama",
        embedding=Embedding(vocab_size=128256, hidden_size=4096, position_rows=0),
        layers=(Layers(tuple(range(32)), attention, mlp, norm),),
        head=Head(norm=norm, tied=False),
        max_position_embeddings=8192,
        max_model_len=8192,
        checkpoint=Checkpoint(dtype="bfloat16"),
    )


def test_opt_is_read_completely() -> None:
    norm = Norm("layernorm", 1e-5, 64)
    attention = Attention(
        hidden_size=64,
        num_heads=8,
        num_kv_heads=8,
        head_dim=8,
        sliding_window=None,
        rotary=None,
        qkv_bias=True,
        output_bias=True,
        qk_norm=False,
    )
    mlp = Dense(hidden_size=64, width=160, gated=False, activation="relu", bias=True)
    assert spec_from_config(TINY_OPT, "tiny") == DecoderSpec(
        name="tiny",
        architecture="opt",
        embedding=Embedding(vocab_size=101, hidden_size=64, position_rows=52),
        layers=(Layers((0, 1, 2), attention, mlp, norm),),
        head=Head(norm=norm, tied=True),
        max_position_embeddings=50,
        max_model_len=50,
    )


def test_gpt2_has_learned_positions_and_a_fourfold_mlp() -> None:
    spec = spec_from_config(TINY_GPT2, "tiny")
    assert (spec.embedding.position_rows, dense_of(spec).width) == (50, 256)
    assert (dense_of(spec).activation, spec.head.tied) == ("gelu_tanh", True)


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"model_type": "llama", "sliding_window": 16}, None),
        ({"model_type": "mistral", "sliding_window": 16}, 16),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "mistral"}, 4096),
        ({"model_type": "mixtral"}, None),
        ({"model_type": "mixtral", "sliding_window": 16}, 16),
        ({"model_type": "qwen2", "sliding_window": 16}, None),
        (
            {
                "model_type": "qwen2",
                "use_sliding_window": True,
                "sliding_window": 16,
                "max_window_layers": 0,
            },
            16,
        ),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3}, None),
        (
            {
                "model_type": "qwen3",
                "use_sliding_window": True,
                "layer_types": ["sliding_attention"] * 3,
            },
            4096,
        ),
        ({"model_type": "qwen3", "use_sliding_window": False, "sliding_window": 16}, None),
    ],
)
def test_sliding_window(changes: dict[str, Any], window: int | None) -> None:
    assert spec_of(**changes).sliding_window == window


def test_defaults_of_a_file_that_leaves_keys_out() -> None:
    absent = {key: value for key, value in TINY_LLAMA.items() if key != "num_key_value_heads"}
    assert spec_from_config(absent, "tiny").layers[0].mixer.caches[0].per_entry.count == 8
    assert spec_of().rotary_tables[0].theta == 10_000.0
    assert spec_of(rope_parameters={"rope_theta": 7.0}).rotary_tables[0].theta == 7.0
    assert spec_of(rope_scaling={"rope_type": "llama3", "factor": 8.0}) == spec_of()


def test_architecture_from_the_class_name_alone() -> None:
    config = {**TINY_LLAMA, "architectures": ["Qwen2ForCausalLM"]}
    del config["model_type"]
    assert spec_from_config(config, "tiny").architecture == "qwen2"


def test_names_ignore_case_and_organisation() -> None:
    assert load_spec("NousResearch/Llama-2-7B") == load_spec("llama-2-7b")


def test_paths_to_a_file_and_to_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_LLAMA))
    (folder / "variant.json").write_text(json.dumps(TINY_LLAMA))
    assert load_spec(str(folder)) == spec_from_config(TINY_LLAMA, "my-model")
    assert load_spec(str(folder / "config.json")) == spec_from_config(TINY_LLAMA, "my-model")
    assert load_spec(str(folder / "variant.json")) == spec_from_config(TINY_LLAMA, "variant")


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("llama", {"hidden_size": "64"}, "hidden_size = '64': expected a valid integer"),
        ("llama", {"num_hidden_layers": True}, "num_hidden_layers = True: expected a valid int"),
        ("llama", {"vocab_size": 0}, "vocab_size = 0: expected greater than 0"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads = 3: .* = 8; nearest: 2"),
        ("llama", {"hidden_size": 60}, "hidden_size = 60: .*num_attention_heads = 8, or head_dim"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps = nan"),
        ("llama", {"rope_parameters": {"rope_theta": -1.0}}, r"rope_parameters\.rope_theta = -1"),
        (
            "llama",
            {"hidden_act": "silo"},
            r"hidden_act = 'silo': did you mean silu\? Expected one of",
        ),
        ("mistral, wide heads", {"attention_bias": True}, "attention_bias = True: expected False"),
        (
            "qwen2",
            {"use_sliding_window": True, "max_window_layers": 2},
            "max_window_layers = 2: expected all 3 layers",
        ),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "layer_types = .*expected all 3"),
        ("qwen3", {"layer_types": ["full_attention"]}, "layer_types has 1 entry:"),
        ("mixtral", {"num_experts_per_tok": 7}, "num_experts_per_tok = 7: expected at most .* 6"),
        ("qwen3_moe", {"num_experts_per_tok": 7}, "num_experts_per_tok = 7: expected at most"),
        ("qwen2_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step = 0: expected greater"),
        ("qwen3_moe", {"mlp_only_layers": 0}, "mlp_only_layers = 0: expected a valid list"),
        ("gpt2", {"n_head": 7}, "n_embd = 64: expected a multiple of n_head = 7"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention = True: expected False"),
        ("opt", {"num_attention_heads": 7}, "hidden_size = 64: expected a multiple"),
        ("opt", {"word_embed_proj_dim": 32}, "word_embed_proj_dim = 32: expected hidden_size = 64"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before = False: expected True"),
    ],
)
def test_inconsistent_keys(case: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec_from_config({**TINY[case], **changes}, "tiny")


@pytest.mark.parametrize("case", ["llama", "mistral, wide heads", "qwen2_moe", "gpt2", "opt"])
def test_each_missing_shape_is_named(case: str) -> None:
    optional = {"model_type", "head_dim", "shared_expert_intermediate_size"}
    optional |= {"num_key_value_heads"} if case == "llama" else set()
    for key in set(TINY[case]) - optional:
        config = {name: value for name, value in TINY[case].items() if name != key}
        with pytest.raises(ConfigError, match=f"tiny: {key} is missing"):
            spec_from_config(config, "tiny")


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    config = {**TINY_LLAMA, "vocab_size": None, "hidden_sizes": 64}
    del config["hidden_size"]
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        load_spec(str(file))
    assert str(caught.value).splitlines() == [
        f"{file}: vocab_size = None: expected a valid integer",
        f"{file}: hidden_size is missing; nearest: hidden_sizes",
    ]
