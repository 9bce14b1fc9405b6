"""Encoders beside a language model, against transformers; and how wrappers are read."""

import json
from pathlib import Path
from typing import Any

import pytest

import model.spec as spec_module
from model.encoders.sounds import parakeet
from model.errors import ConfigError, UnknownArchitectureError
from model.families.registry import FAMILIES
from model.families.wrapper_rows import WRAPPERS
from model.families.wrappers import language_model
from model.from_config import spec_from_config
from model.ops import encoder_bytes, rank_weight_bytes
from model.precision import precision
from model.spec import load_spec
from tests.model.wrapper_cases import CASES, SOUNDS
from tests.model.wrapper_shapes import LLAMA, ROUTED, TEXT


@pytest.mark.parametrize("case", CASES)
def test_encoders_have_the_parameters_of_transformers(case: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kind, settings = CASES[case]
    config = transformers.AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        of_images, of_sounds = (
            transformers.AutoModelForImageTextToText,
            transformers.AutoModelForMultimodalLM,
        )
        model = (of_sounds if kind in SOUNDS else of_images).from_config(config)
    inside = (".language_model.", ".text_model.", "lm_head.")
    beside = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not any(word in f".{name}" for word in inside) or ".vision_moe." in name
    )
    written = {"model_type": kind, **settings}
    for file in (written, config.to_dict()):
        text = language_model(file, WRAPPERS[kind])
        assert WRAPPERS[kind].beside(file, text) == beside
        if text["model_type"] in FAMILIES:
            whole = sum(parameter.numel() for parameter in model.parameters())
            assert spec_from_config(file, "tiny").parameters() == whole - beside


DEEPSEEK_OCR_TOWERS = 400_770_048
DEEPSEEK_OCR_2 = 3_389_119_360
"""Of the whole model, as transformers counts it."""
NEMOTRON = "nemotron-nano-12b-v2.json"
LLAVA = {"model_type": "llava", **CASES["llava"][1]}


def test_the_language_model_is_read_as_if_it_stood_alone() -> None:
    alone = spec_from_config(LLAMA, "tiny")
    spec = spec_from_config(LLAVA, "tiny")
    assert (spec.layers, spec.embedding, spec.head) == (alone.layers, alone.embedding, alone.head)
    assert spec.parameters() == alone.parameters()
    assert spec.encoder_parameters > 0


@pytest.mark.parametrize("case", ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "qwen3_asr"])
def test_of_several_models_in_a_file_the_one_that_thinks_is_served(case: str) -> None:
    kind, thinker = CASES[case]
    alone = spec_from_config({"model_type": kind, **thinker}, "tiny")
    whole = kind.removesuffix("_thinker")
    quantization = {"quant_method": "fp8", "weight_block_size": None}
    file = {
        "model_type": whole,
        "thinker_config": {"model_type": kind, **thinker},
        "talker_config": {"text_config": LLAMA},
        "dtype": "float16",
        "quantization_config": quantization,
    }
    spec = spec_from_config(file, "tiny")
    assert spec.parameters() == alone.parameters()
    assert spec.encoder_parameters == alone.encoder_parameters > 0
    assert spec.checkpoint.dtype == "float16"
    assert spec.checkpoint.weights.schemes()


def test_encoders_take_memory_of_every_rank() -> None:
    spec, numbers = spec_from_config(LLAVA, "tiny"), precision()
    alone = spec_from_config(LLAMA, "tiny")
    for tp in (1, 2):
        assert encoder_bytes(spec, numbers, tp) == 2 * -(-spec.encoder_parameters // tp)
        decoder = rank_weight_bytes(spec, precision=numbers, tp=tp)
        assert decoder == rank_weight_bytes(alone, precision=numbers, tp=tp)
    assert encoder_bytes(alone, numbers) == 0


def test_what_a_wrapper_says_holds_for_its_language_model() -> None:
    quantization = {"quant_method": "fp8", "modules_to_not_convert": ["model.vision_tower"]}
    told = {"dtype": "float16", "tie_word_embeddings": True, "quantization_config": quantization}
    spec = spec_from_config({**LLAVA, **told}, "tiny")
    assert spec.head.tied
    assert spec.checkpoint.dtype == "float16"
    assert spec.checkpoint.weights.method == "fp8"


def test_other_towers_behind_the_name_of_deepseek_ocrs_are_refused() -> None:
    """DeepSeek-VL2 has its type, and a tower of SigLIP."""
    vision = {"model_type": "vision", "model_name": "siglip_so400m_patch14_384", "width": 1152}
    file = {"model_type": "deepseek_vl_v2", "language_config": {**LLAMA}, "vision_config": vision}
    with pytest.raises(UnknownArchitectureError, match=r"model_name = 'siglip_so400m.* is not mod"):
        spec_from_config(file, "x")


def test_kimi_vl_has_the_tower_of_kimi_k25() -> None:
    """16.4 billion in all, published as 16; 0.45 of them in the tower and behind it."""
    text = {
        "model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 11264,
        "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
        "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
        "first_k_dense_replace": 1, "kv_lora_rank": 512, "q_lora_rank": None,
        "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
        "vocab_size": 163840, "max_position_embeddings": 131072,
    }  # fmt: skip
    vision = {"model_type": "moonvit", "hidden_size": 1152, "num_hidden_layers": 27,
              "intermediate_size": 4304, "patch_size": 14}  # fmt: skip
    file = {"text_config": text, "vision_config": vision}
    spec = spec_from_config({"model_type": "kimi_vl", **file}, "x")
    assert spec == spec_from_config({"model_type": "kimi_k25", **file}, "x")
    assert round((spec.parameters() + spec.encoder_parameters) / 1e8) == 164
    assert round(spec.encoder_parameters / 1e7) == 45


def test_names_of_a_wrapped_model_in_lists() -> None:
    """A published list names its layers with the wrapper's name before, also in expressions."""
    for entry in (
        "language_model.model.layers.0.self_attn",
        "re:language_model[.]model[.]layers[.]0[.]self_attn.*",
        "model.language_model.layers.0.self_attn*",
        "re:model[.]language_model[.]layers[.]0[.]self_attn.*",
    ):
        quantization = {"quant_method": "fp8", "modules_to_not_convert": [entry]}
        spec = spec_from_config({**LLAVA, "quantization_config": quantization}, "tiny")
        parts = dict(spec.checkpoint.weights.parts)
        assert [places for scheme, places in parts["qkv_proj"] if scheme is None] == [(0,)], entry
        assert all(scheme is not None for scheme, _ in parts["mlp_up"]), entry


def test_keys_at_the_top_are_the_language_models() -> None:
    """Qwen2-VL's first files have no text_config."""
    vision = CASES["qwen2_vl"][1]["vision_config"]
    scaling = {"type": "mrope", "mrope_section": [1, 1, 2]}
    file = {"model_type": "qwen2_vl", **TEXT, "vision_config": vision, "rope_scaling": scaling}
    spec = spec_from_config(file, "tiny")
    assert spec.architecture == "qwen2_vl_text"
    assert spec.rotary_tables[0].table_rows == 4 * 50
    nested = spec_from_config({"model_type": "qwen2_vl", **CASES["qwen2_vl"][1]}, "tiny")
    assert spec.parameters() == nested.parameters()


def test_a_wrapper_under_the_name_of_its_language_model() -> None:
    file = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "ministral3",
        **CASES["mistral3"][1],
    }
    assert spec_from_config(file, "tiny").encoder_parameters > 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"text_config": {"model_type": "gemma9"}}, UnknownArchitectureError, "'gemma9' is not mo"),
        (
            {"vision_config": {"model_type": "clip_vision"}},
            UnknownArchitectureError,
            "tiny: vision_config.model_type = 'clip_vision' is not modelled, did you mean clip_vis",
        ),
        ({"vision_config": 3}, ConfigError, "tiny: vision_config = '3': expected a mapping"),
        (
            {"vision_config": {"model_type": "clip_vision_model", "hidden_size": "48"}},
            ConfigError,
            "tiny: hidden_size = '48': expected an integer",
        ),
    ],
)
def test_wrappers_that_are_wrong(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spec_from_config({**LLAVA, **changes}, "tiny")


def test_encoders_that_are_not_modelled_are_not_left_out() -> None:
    """MiMo-V2.5 writes its language model at the top of the file, with towers beside it."""
    text = {**TEXT, **ROUTED, "model_type": "mimo_v2", "hybrid_layer_pattern": [0, 1]}
    text |= {"moe_layer_freq": [0, 1], "sliding_window": 16, "v_head_dim": 8}
    assert spec_from_config({**text, "vision_config": None}, "tiny").encoder_parameters == 0
    for key in ("vision_config", "audio_config"):
        with pytest.raises(ConfigError, match=f"{key}: the encoders of MiMo are not modelled"):
            spec_from_config({**text, key: {"hidden_size": 48}}, "tiny")


def test_documents_read_by_two_towers() -> None:
    """DeepSeek-OCR: 3.3B, of which 0.4B are SAM's and CLIP's towers; attention without latents."""
    text = {
        **TEXT,
        **ROUTED,
        "model_type": "deepseek_v2",
        "use_mla": False,
        "hidden_size": 1280,
        "num_key_value_heads": 8,
    }
    file = {
        "model_type": "deepseek_vl_v2",
        "architectures": ["DeepseekOCRForCausalLM"],
        "language_config": text,
    }
    spec = spec_from_config(file, "tiny")
    assert spec.architecture == "deepseek"
    # Counted by transformers in unlimited_ocr, whose towers are the same.
    assert spec.encoder_parameters == DEEPSEEK_OCR_TOWERS
    second = load_spec("deepseek-ai/DeepSeek-OCR-2")
    assert second.parameters() + second.encoder_parameters == DEEPSEEK_OCR_2
    other = {**file, "architectures": ["DeepseekVLV2ForCausalLM"]}
    with pytest.raises(UnknownArchitectureError, match="expected one of DeepseekOCRForCausalLM"):
        spec_from_config(other, "tiny")


def test_an_unknown_wrapper_is_named() -> None:
    config = {"model_type": "newcomer", "text_config": {**LLAMA}}
    with pytest.raises(UnknownArchitectureError, match=r"\(llama\) inside a .* text_config"):
        spec_from_config(config, "tiny")


def test_nemotron_vl_has_radio_beside_its_language_model() -> None:
    """ViT-H of timm, 631 million parameters; positions of 2,048 pixels; two matrices of 5,120."""
    text = json.loads((Path(spec_module.__file__).parent / "catalogue" / NEMOTRON).read_text())
    vision = {
        "patch_size": 16, "video_temporal_patch_size": 2,
        "args": {
            "model": "vit_huge_patch16_224", "cpe_max_size": 2048, "register_multiple": 8,
            "cls_token_per_teacher": True, "teachers": [{"name": "clip"}, {"name": "dino"}],
        },
    }  # fmt: skip
    config = {
        "model_type": "NemotronH_Nano_VL_V2", "architectures": ["NemotronH_Nano_VL_V2"],
        "llm_config": text, "vision_config": vision, "projector_hidden_size": 20480,
        "vit_hidden_size": 1280,
    }  # fmt: skip
    layer = 4 * 1280**2 + 4 * 1280 + 2 * 1280 * 5120 + 5120 + 1280 + 4 * 1280
    tower = 32 * layer + (3 * 256 + 6 * 256) * 1280 + (128**2 + 8) * 1280
    projector = 5120 + 5120 * 20480 + 20480 * 5120
    spec = spec_from_config(config, "vl")
    assert spec.encoder_parameters == tower + projector
    assert spec.parameters() == load_spec(NEMOTRON.removesuffix(".json")).parameters()
    heard = spec_from_config(config | {"sound_config": {"num_mel_bins": 128}}, "omni")
    sounds = 608_977_920 + 1024 + 1024 * 4096 + 4096 * 5120
    assert heard.encoder_parameters == spec.encoder_parameters + sounds
    other = vision | {"args": {"model": "vit_giant"}}
    with pytest.raises(UnknownArchitectureError, match=r"vision_config.args.model = 'vit_giant'"):
        spec_from_config(config | {"vision_config": other}, "vl")


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"attention_bias": False, "num_mel_bins": 80, "conv_kernel_size": 31},
        {"convolution_bias": False, "subsampling_conv_channels": 16, "num_hidden_layers": 3},
    ],
)
def test_parakeet_is_counted_like_transformers(told: dict[str, Any]) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    audio = {
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
        "intermediate_size": 96, "conv_kernel_size": 9, "subsampling_factor": 8,
        "subsampling_conv_channels": 32, "num_mel_bins": 128, **told,
    }  # fmt: skip
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.ParakeetEncoderConfig(**audio))
    assert parakeet(audio) == sum(each.numel() for each in model.parameters())
