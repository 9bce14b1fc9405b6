"""Encoders beside a language model, against transformers; and how wrappers are read."""

from typing import Any

import pytest

from model.errors import ConfigError, UnknownArchitectureError
from model.families.registry import FAMILIES
from model.families.wrapper_rows import WRAPPERS
from model.families.wrappers import language_model
from model.ops import encoder_bytes, rank_weight_bytes
from model.precision import precision
from model.spec import load_spec, spec_from_config

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 101,
    "max_position_embeddings": 50,
    "pad_token_id": 0,
}
TOWER = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
DEEP = {
    "depth": 3,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_heads": 4,
    "patch_size": 7,
    "out_hidden_size": 64,
}
QWEN3 = {**DEEP, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2]}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
ROUTED = {**MOE, "n_routed_experts": 6, "n_shared_experts": 1, "first_k_dense_replace": 1}
MLA = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 8,
}
LLAMA = {"model_type": "llama", **TEXT}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llava": ("llava", {"text_config": LLAMA, "vision_config": {**TOWER, "model_type":
              "clip_vision_model"}}),
    "llava, two layers of siglip": (
        "llava",
        {
            "text_config": LLAMA,
            "vision_config": {**TOWER, "model_type": "siglip_vision_model"},
            "vision_feature_layer": [-1, -2],
            "multimodal_projector_bias": False,
        },
    ),
    "llava, pixtral": (
        "llava",
        {
            "text_config": {"model_type": "mistral", **TEXT},
            "vision_config": {**TOWER, "model_type": "pixtral", "head_dim": 12},
            "vision_feature_layer": -1,
        },
    ),
    "llava_next": (
        "llava_next",
        {"text_config": LLAMA, "vision_config": {**TOWER, "model_type": "clip_vision_model"}},
    ),
    "mistral3": (
        "mistral3",
        {
            "tie_word_embeddings": False,
            "text_config": {"model_type": "ministral3", **TEXT},
            "vision_config": {**TOWER, "model_type": "pixtral", "head_dim": 12},
        },
    ),
    "llama4": (
        "llama4",
        {
            "text_config": {"model_type": "llama4_text", **TEXT, "num_local_experts": 4,
                            "interleave_moe_layer_step": 1},
            "vision_config": {
                **TOWER,
                "projector_input_dim": 40,
                "projector_output_dim": 40,
                "vision_output_dim": 40,
            },
        },
    ),
    "gemma3": (
        "gemma3",
        {
            "text_config": {"model_type": "gemma3_text", **TEXT},
            "vision_config": {**TOWER, "model_type": "siglip_vision_model",
                              "vision_use_head": False},
        },
    ),
    "gemma4": (
        "gemma4",
        {
            "text_config": {"model_type": "gemma4_text", **TEXT, "hidden_size_per_layer_input": 0,
                            "num_kv_shared_layers": 0},
            "vision_config": {**TOWER, "head_dim": 12, "num_key_value_heads": 4,
                              "position_embedding_size": 20},
            "audio_config": None,
        },
    ),
    "gemma4, sounds as well": (
        "gemma4",
        {
            "text_config": {"model_type": "gemma4_text", **TEXT, "hidden_size_per_layer_input": 12,
                            "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 101},
            "vision_config": {**TOWER, "head_dim": 12, "num_key_value_heads": 4,
                              "position_embedding_size": 20},
            "audio_config": {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
                             "conv_kernel_size": 3, "subsampling_conv_channels": [16, 8],
                             "output_proj_dims": 56},
        },
    ),
    "gemma4_unified": (
        "gemma4_unified",
        {
            "text_config": {"model_type": "gemma4_unified_text", **TEXT,
                            "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0},
            "vision_config": {"mm_embed_dim": 48, "mm_posemb_size": 20, "patch_size": 7,
                              "output_proj_dims": 48},
            "audio_config": {"audio_embed_dim": 40},
        },
    ),
    "lighton_ocr": (
        "lighton_ocr",
        {
            "spatial_merge_size": 3,
            "tie_word_embeddings": True,
            "text_config": {"model_type": "qwen3", **TEXT},
            "vision_config": {**TOWER, "model_type": "pixtral"},
        },
    ),
    "cohere2_vision": (
        "cohere2_vision",
        {
            "alignment_intermediate_size": 72,
            "text_config": {"model_type": "cohere2", **TEXT},
            "vision_config": {**TOWER, "model_type": "siglip_vision_model"},
        },
    ),
    "aya_vision": (
        "aya_vision",
        {
            "downsample_factor": 3,
            "text_config": {"model_type": "cohere2", **TEXT},
            "vision_config": {**TOWER, "model_type": "siglip_vision_model"},
        },
    ),
    "minicpmv4_6": (
        "minicpmv4_6",
        {
            "merger_times": 2,
            "tie_word_embeddings": False,
            "text_config": {"model_type": "qwen3_5_text", **TEXT, "tie_word_embeddings": False,
                            "layer_types": ["linear_attention", "full_attention"],
                            "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                            "linear_key_head_dim": 8, "linear_value_head_dim": 8},
            "vision_config": TOWER,
        },
    ),
    "hunyuan_vl": (
        "hunyuan_vl",
        {
            "tie_word_embeddings": False,
            "text_config": {"model_type": "hunyuan_vl_text", **TEXT, "tie_word_embeddings": False},
            "vision_config": {**TOWER, "max_image_size": 28},
        },
    ),
    "lfm2_vl": (
        "lfm2_vl",
        {
            "text_config": {"model_type": "lfm2", **TEXT,
                            "layer_types": ["conv", "full_attention"]},
            "vision_config": {**TOWER, "model_type": "siglip2_vision_model", "num_patches": 16},
            "projector_hidden_size": 56,
        },
    ),
    "internvl": (
        "internvl",
        {
            "tie_word_embeddings": False,
            "text_config": {"model_type": "qwen2", **TEXT},
            "vision_config": {**TOWER, "image_size": [28, 28], "patch_size": [7, 7],
                              "attention_bias": True, "use_qk_norm": True,
                              "norm_type": "rms_norm"},
        },
    ),
    "kimi_k25": (
        "kimi_k25",
        {
            "tie_word_embeddings": False,
            "text_config": {"model_type": "deepseek_v3", **TEXT, **ROUTED, **MLA},
            "vision_config": {**TOWER, "pos_emb_height": 4, "pos_emb_width": 6},
            "projection_hidden_size": 48,
        },
    ),
    "qwen2_vl": (
        "qwen2_vl",
        {
            "text_config": {"model_type": "qwen2_vl_text", **TEXT},
            "vision_config": {"depth": 3, "embed_dim": 48, "hidden_size": 64, "num_heads": 4},
        },
    ),
    "qwen2_5_vl": (
        "qwen2_5_vl",
        {"text_config": {"model_type": "qwen2_5_vl_text", **TEXT}, "vision_config": DEEP},
    ),
    "qwen3_vl": (
        "qwen3_vl",
        {"text_config": {"model_type": "qwen3_vl_text", **TEXT}, "vision_config": QWEN3},
    ),
    "qwen3_vl_moe": (
        "qwen3_vl_moe",
        {
            "text_config": {"model_type": "qwen3_vl_moe_text", **TEXT, **MOE},
            "vision_config": {**QWEN3, "deepstack_visual_indexes": []},
        },
    ),
    "glm4v": (
        "glm4v",
        {
            "text_config": {"model_type": "glm4v_text", **TEXT},
            "vision_config": {**DEEP, "image_size": 28, "attention_bias": True},
        },
    ),
    "glm4v_moe": (
        "glm4v_moe",
        {
            "text_config": {"model_type": "glm4v_moe_text", **TEXT, **ROUTED},
            "vision_config": {**DEEP, "image_size": 28},
        },
    ),
    "llava_onevision": (
        "llava_onevision",
        {
            "text_config": {"model_type": "qwen2", **TEXT},
            "vision_config": {**TOWER, "model_type": "siglip_vision_model",
                              "vision_use_head": False},
            "tie_word_embeddings": False,
        },
    ),
    "idefics3": (
        "idefics3",
        {"text_config": LLAMA, "vision_config": TOWER, "scale_factor": 2,
         "tie_word_embeddings": False},
    ),
    "smolvlm": (
        "smolvlm",
        {"text_config": LLAMA, "vision_config": TOWER, "scale_factor": 4,
         "tie_word_embeddings": False},
    ),
    "paligemma": (
        "paligemma",
        {
            "text_config": {"model_type": "gemma", **TEXT},
            "vision_config": {**TOWER, "model_type": "siglip_vision_model",
                              "vision_use_head": False},
            "projection_dim": 64,
        },
    ),
    "paddleocr_vl": (
        "paddleocr_vl",
        {"text_config": {**TEXT}, "vision_config": TOWER, "tie_word_embeddings": True},
    ),
    "ernie4_5_vl_moe": (
        "ernie4_5_vl_moe",
        {
            "text_config": {**TEXT, "moe_num_experts": 6, "moe_k": 2,
                            "moe_intermediate_size": [48, 16], "moe_num_shared_experts": 1,
                            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                "mrope_section": [1, 1, 2]}},
            "vision_config": {"depth": 3, "hidden_size": 48, "num_heads": 4,
                              "intermediate_size": 80, "patch_size": 7},
            "tie_word_embeddings": True,
        },
    ),
    "glm_ocr": (
        "glm_ocr",
        {"text_config": {"model_type": "glm_ocr_text", **TEXT}, "vision_config": DEEP},
    ),
    "muse_glimmer": (
        "muse_glimmer",
        {
            "text_config": {"model_type": "muse_glimmer_text", **TEXT, "layer_types":
                            ["sliding_attention", "full_attention"],
                            "layer_rope_theta": [10000.0, 0]},
            "vision_config": {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
                              "num_attention_heads": 4, "patch_size": 7, "pos_emb_height": 4,
                              "pos_emb_width": 4, "layer_types": ["full_attention"] * 2},
            "out_hidden_size": 192,
            "projector_hidden_size": 72,
        },
    ),
    "glm46v": (
        "glm46v",
        {
            "text_config": {"model_type": "glm4v_text", **TEXT},
            "vision_config": {**DEEP, "image_size": 28},
        },
    ),
    "qwen3_asr": (
        "qwen3_asr",
        {
            "text_config": {"model_type": "qwen3", **TEXT},
            "audio_config": {"num_mel_bins": 20, "encoder_layers": 3, "encoder_ffn_dim": 80,
                             "encoder_attention_heads": 4, "d_model": 48, "output_dim": 64,
                             "downsample_hidden_size": 10},
            "tie_word_embeddings": False,
        },
    ),
    "glmasr": (
        "glmasr",
        {
            "text_config": LLAMA,
            "audio_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
                             "num_attention_heads": 4, "num_key_value_heads": 4,
                             "num_mel_bins": 20},
            "tie_word_embeddings": False,
        },
    ),
    "moss_transcribe_diarize": (
        "moss_transcribe_diarize",
        {
            "text_config": {"model_type": "qwen3", **TEXT},
            "audio_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
                             "num_attention_heads": 4, "num_mel_bins": 20},
            "tie_word_embeddings": False,
        },
    ),
    "qwen2_audio": (
        "qwen2_audio",
        {
            "text_config": {"model_type": "qwen2", **TEXT},
            "audio_config": {"d_model": 48, "encoder_ffn_dim": 96, "encoder_layers": 3,
                             "encoder_attention_heads": 4, "num_mel_bins": 20},
            "tie_word_embeddings": False,
        },
    ),
    "voxtral": (
        "voxtral",
        {
            "text_config": LLAMA,
            "audio_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
                             "num_attention_heads": 4, "num_mel_bins": 20},
            "tie_word_embeddings": False,
        },
    ),
}  # fmt: skip
SOUNDS = {"qwen3_asr", "glmasr", "moss_transcribe_diarize", "qwen2_audio", "voxtral"}


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
LLAVA = {"model_type": "llava", **CASES["llava"][1]}


def test_the_language_model_is_read_as_if_it_stood_alone() -> None:
    alone = spec_from_config(LLAMA, "tiny")
    spec = spec_from_config(LLAVA, "tiny")
    assert (spec.layers, spec.embedding, spec.head) == (alone.layers, alone.embedding, alone.head)
    assert spec.parameters() == alone.parameters()
    assert spec.encoder_parameters > 0


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
