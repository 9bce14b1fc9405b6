"""Config files that leave out what is usual for their towers, and towers of unusual shapes."""

from typing import Any

from tests.model.wrapper_shapes import LLAMA, TEXT, TOWER

TOWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llava, what its tower's type leaves out": (
        "llava",
        {"text_config": LLAMA, "vision_config": {"model_type": "clip_vision_model"}},
    ),
    "mistral3, what its tower's type leaves out": (
        "mistral3",
        {
            "tie_word_embeddings": False,
            "text_config": {"model_type": "ministral3", **TEXT},
            "vision_config": {"model_type": "pixtral", "num_hidden_layers": 2},
        },
    ),
    "idefics3, what its tower's type leaves out": (
        "idefics3",
        {"text_config": LLAMA, "vision_config": {"num_hidden_layers": 2, "image_size": 64}},
    ),
    "llava_onevision, what its tower's type leaves out": (
        "llava_onevision",
        {
            "text_config": {"model_type": "qwen2", **TEXT},
            "vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 2},
        },
    ),
    "gemma4, narrow heads": (
        "gemma4",
        {
            "text_config": {
                "model_type": "gemma4_text",
                **TEXT,
                "hidden_size_per_layer_input": 0,
                "num_kv_shared_layers": 0,
            },
            "vision_config": {**TOWER, "head_dim": 8, "num_key_value_heads": 2},
            "audio_config": None,
        },
    ),
}
