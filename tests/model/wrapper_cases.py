"""Config files of models with encoders, and the parameters that transformers counts in each."""

from typing import Any

from tests.model.omni_cases import OMNI
from tests.model.tower_cases import TOWERS
from tests.model.wrapper_shapes import DEEP, DELTA, LLAMA, MLA, MOE, QWEN3, ROUTED, TEXT, TOWER

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
                            **DELTA},
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
    "minimax_m3_vl": (
        "minimax_m3_vl",
        {
            "text_config": {
                "model_type": "minimax_m3_vl_text", **TEXT, "num_local_experts": 4,
                "num_experts_per_tok": 2, "dense_intermediate_size": 96,
                "shared_intermediate_size": 32, "head_dim": 8, "moe_layer_freq": [0, 1],
                "sparse_attention_config": {"sparse_attention_freq": [0, 1]},
            },
            "vision_config": {**TOWER, "spatial_merge_size": 3, "temporal_patch_size": 1},
            "projector_hidden_size": 56,
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
    "exaone4_5": (
        "exaone4_5",
        {
            "text_config": {"model_type": "exaone4", **TEXT},
            "vision_config": {**DEEP, "num_heads": 8, "num_key_value_heads": 2},
        },
    ),
    "qwen3_vl": (
        "qwen3_vl",
        {"text_config": {"model_type": "qwen3_vl_text", **TEXT}, "vision_config": QWEN3},
    ),
    "qwen3_5": (
        "qwen3_5",
        {
            "text_config": {"model_type": "qwen3_5_text", **TEXT, **DELTA},
            "vision_config": {**DEEP, "num_position_embeddings": 16},
        },
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
    **OMNI,
    **TOWERS,
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
