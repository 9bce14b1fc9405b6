"""Models that hear and see and think, as the part of a file that thinks has them."""

from typing import Any

from tests.model.wrapper_shapes import MOE, TEXT

OMNI: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_5_omni_thinker": (
        "qwen2_5_omni_thinker",
        {
            "text_config": {"model_type": "qwen2_5_omni_text", **TEXT},
            "vision_config": {
                "depth": 3,
                "hidden_size": 48,
                "num_heads": 4,
                "out_hidden_size": 64,
                "intermediate_size": 80,
                "patch_size": 14,
            },
            "audio_config": {
                "num_mel_bins": 20,
                "encoder_layers": 3,
                "encoder_ffn_dim": 80,
                "encoder_attention_heads": 4,
                "d_model": 48,
                "output_dim": 64,
            },
        },
    ),
    "qwen3_omni_moe_thinker": (
        "qwen3_omni_moe_thinker",
        {
            "text_config": {"model_type": "qwen3_omni_moe_text", **TEXT, **MOE},
            "vision_config": {
                "depth": 3,
                "hidden_size": 48,
                "num_heads": 4,
                "out_hidden_size": 64,
                "intermediate_size": 80,
                "deepstack_visual_indexes": [1],
            },
            "audio_config": {
                "num_mel_bins": 20,
                "encoder_layers": 3,
                "encoder_ffn_dim": 80,
                "encoder_attention_heads": 4,
                "d_model": 48,
                "output_dim": 64,
                "downsample_hidden_size": 10,
            },
        },
    ),
}
