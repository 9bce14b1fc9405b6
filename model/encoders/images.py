"""Encoders of images: parameters by the keys of their ``vision_config``.

What a file leaves out takes the default of its configuration class in ``transformers``.
"""

from collections.abc import Callable
from itertools import pairwise

from model.config_keys import Config, flag, side, whole
from model.encoders.tower import blocks, layernorm, linear, patches

NO_DEEP_STACKS: Config = {"deepstack_visual_indexes": []}
"""What Qwen3.5's files mean that do not name any."""


def clip(vision: Config, *, hidden: int = 768, inner: int = 3072, layers: int = 12) -> int:
    """Count CLIP's tower: a class token, positions, norms before and behind."""
    hidden, inner = whole(vision, "hidden_size", hidden), whole(vision, "intermediate_size", inner)
    patch = side(vision, "patch_size", 32)
    rows = (side(vision, "image_size", 224) // patch) ** 2 + 1
    layers = whole(vision, "num_hidden_layers", layers)
    before = hidden + patches(hidden, patch, bias=False) + rows * hidden
    return before + 2 * layernorm(hidden) + blocks(layers, hidden, inner)


def siglip(vision: Config) -> int:
    """Count SigLIP's tower and, unless it is left off, its pooling head.

    Its second edition (``num_patches``) has so many positions whatever the image's size.
    """
    hidden, inner = whole(vision, "hidden_size", 768), whole(vision, "intermediate_size", 3072)
    patch = side(vision, "patch_size", 16)
    rows = (side(vision, "image_size", 224) // patch) ** 2
    if "siglip2" in str(vision.get("model_type")):
        rows = whole(vision, "num_patches", 256)
    layers = whole(vision, "num_hidden_layers", 12)
    head = linear(hidden, inner) + linear(inner, hidden) + 4 * linear(hidden, hidden)
    head += hidden + layernorm(hidden)
    tower = patches(hidden, patch, bias=True) + rows * hidden + layernorm(hidden)
    tower += blocks(layers, hidden, inner)
    return tower + (head if flag(vision, "vision_use_head", True) else 0)


def pixtral(vision: Config) -> int:
    """Count Pixtral's tower: rotary positions, RMSNorm, gated MLPs, no biases."""
    hidden, inner = whole(vision, "hidden_size", 1024), whole(vision, "intermediate_size", 4096)
    layers = whole(vision, "num_hidden_layers", 24)
    each = blocks(layers, hidden, inner, gated=True, attention_biases=0, mlp_bias=False, norms=2)
    return patches(hidden, side(vision, "patch_size", 16), bias=False) + hidden + each


def qwen2_vl(vision: Config) -> int:
    """Count Qwen2-VL's tower and the merger that joins four patches."""
    hidden, layers = whole(vision, "embed_dim", 1280), whole(vision, "depth", 32)
    joined = hidden * whole(vision, "spatial_merge_size", 2) ** 2
    merger = layernorm(hidden) + linear(joined, joined)
    merger += linear(joined, whole(vision, "hidden_size", 3584))
    frames, patch = whole(vision, "temporal_patch_size", 2), side(vision, "patch_size", 14)
    each = blocks(layers, hidden, whole(vision, "mlp_ratio", 4) * hidden)
    return patches(hidden, patch, frames=frames, bias=False) + each + merger


def qwen2_5_vl(vision: Config) -> int:
    """Count Qwen2.5-VL's tower: RMSNorm and gated MLPs with biases."""
    hidden, layers = whole(vision, "hidden_size", 3584), whole(vision, "depth", 32)
    joined = hidden * whole(vision, "spatial_merge_size", 2) ** 2
    merger = hidden + linear(joined, joined)
    merger += linear(joined, whole(vision, "out_hidden_size", 3584))
    frames, patch = whole(vision, "temporal_patch_size", 2), side(vision, "patch_size", 14)
    inner = whole(vision, "intermediate_size", 3420)
    each = blocks(layers, hidden, inner, gated=True, norms=2)
    return patches(hidden, patch, frames=frames, bias=False) + each + merger


def exaone(vision: Config) -> int:
    """Count EXAONE 4.5's tower: Qwen2.5-VL's with fewer heads of keys and values."""
    hidden, heads = whole(vision, "hidden_size", 3584), whole(vision, "num_heads", 16)
    fewer = heads - whole(vision, "num_key_value_heads", 8)
    rows = 2 * fewer * (hidden // heads)
    return qwen2_5_vl(vision) - whole(vision, "depth", 32) * rows * (hidden + 1)


def qwen3_vl(vision: Config) -> int:
    """Count the tower of Qwen3-VL and Qwen3.5: learned positions, and a merger for each deep stack.

    The mergers of deep stacks have their norm behind the joining, the last one before.
    """
    hidden, layers = whole(vision, "hidden_size", 1152), whole(vision, "depth", 27)
    joined = hidden * whole(vision, "spatial_merge_size", 2) ** 2
    merger = linear(joined, joined) + linear(joined, whole(vision, "out_hidden_size", 3584))
    stacks = vision.get("deepstack_visual_indexes", [8, 16, 24])
    deep = (len(stacks) if isinstance(stacks, list) else 0) * (layernorm(joined) + merger)
    frames, patch = whole(vision, "temporal_patch_size", 2), side(vision, "patch_size", 16)
    rows = whole(vision, "num_position_embeddings", 2304)
    tower = patches(hidden, patch, frames=frames, bias=True) + rows * hidden
    tower += blocks(layers, hidden, whole(vision, "intermediate_size", 4304))
    return tower + layernorm(hidden) + merger + deep


def qwen3_5(vision: Config) -> int:
    """Count Qwen3.5's tower: Qwen3-VL's, without deep stacks unless its file names some."""
    return qwen3_vl({**NO_DEEP_STACKS, **vision})


def glm4v(vision: Config) -> int:
    """Count GLM-4.1V's tower: gated MLPs, a convolution that joins patches, and a gated merger."""
    hidden, layers = whole(vision, "hidden_size", 1536), whole(vision, "depth", 24)
    out, inner = whole(vision, "out_hidden_size", 4096), whole(vision, "intermediate_size", 13696)
    biased = flag(vision, "attention_bias", False)
    patch, joined = side(vision, "patch_size", 14), whole(vision, "spatial_merge_size", 2) ** 2
    frames = whole(vision, "temporal_patch_size", 2)
    rows = (side(vision, "image_size", 336) // patch) ** 2
    tower = patches(hidden, patch, frames=frames, bias=True) + rows * hidden
    tower += blocks(
        layers,
        hidden,
        out,
        gated=True,
        attention_biases=3 if biased else 0,
        mlp_bias=False,
        norms=2,
    )
    merger = linear(out, out, bias=False) + layernorm(out) + 3 * out * inner
    return tower + 2 * hidden + linear(hidden * joined, out) + merger


def llama4(vision: Config) -> int:
    """Count Llama 4's tower and the MLP behind it that shuffles patches together."""
    hidden, inner = whole(vision, "hidden_size", 768), whole(vision, "intermediate_size", 5632)
    patch, layers = side(vision, "patch_size", 14), whole(vision, "num_hidden_layers", 34)
    rows = (side(vision, "image_size", 448) // patch) ** 2 + 1
    out = whole(vision, "projector_output_dim", 4096)
    adapter = inner * whole(vision, "projector_input_dim", 4096) + out * out
    tower = patches(hidden, patch, bias=False) + hidden + rows * hidden + 2 * layernorm(hidden)
    return tower + blocks(layers, hidden, inner) + adapter


def internvit(vision: Config) -> int:
    """Count InternViT: a class token, a scale behind attention and MLP, norms of two kinds.

    Files of OpenGVLab and of transformers differ in their keys.
    """
    hidden, inner = whole(vision, "hidden_size", 1024), whole(vision, "intermediate_size", 4096)
    patch, layers = side(vision, "patch_size", 14), whole(vision, "num_hidden_layers", 24)
    rows = (side(vision, "image_size", 448) // patch) ** 2 + 1
    normed = flag(vision, "qk_normalization", flag(vision, "use_qk_norm", False))
    biased = flag(vision, "qkv_bias", flag(vision, "attention_bias", False))
    vectors = 1 if vision.get("norm_type") == "rms_norm" else 2
    scales = 2 * hidden + (2 * hidden if normed else 0)
    each = blocks(
        layers,
        hidden,
        inner,
        attention_biases=4 if biased else 1,
        norms=2 * vectors,
        more=scales,
    )
    each += 0 if flag(vision, "use_mean_pooling", True) else layernorm(hidden)
    return hidden + patches(hidden, patch, bias=True) + rows * hidden + each


def gemma4(vision: Config) -> int:
    """Count Gemma 4's tower: gated MLPs, four RMSNorms a layer and norms of queries and keys."""
    hidden, inner = whole(vision, "hidden_size", 768), whole(vision, "intermediate_size", 3072)
    layers, patch = whole(vision, "num_hidden_layers", 16), side(vision, "patch_size", 16)
    head, heads = whole(vision, "head_dim", 64), whole(vision, "num_attention_heads", 12)
    kv_heads = whole(vision, "num_key_value_heads", 12)
    rows = 2 * whole(vision, "position_embedding_size", 10240)
    each = blocks(
        layers,
        hidden,
        inner,
        gated=True,
        attention_biases=0,
        mlp_bias=False,
        # Heads need not be as wide as the stream.
        more=2 * head + 2 * hidden * ((heads + kv_heads) * head - 2 * hidden),
    )
    return patches(hidden, patch, bias=False) + rows * hidden + each


def moonvit(vision: Config) -> int:
    """Count Kimi's MoonViT, by the keys of its own files (``vt_``) or those of transformers."""
    hidden = whole(vision, "vt_hidden_size", whole(vision, "hidden_size", 1152))
    inner = whole(vision, "vt_intermediate_size", whole(vision, "intermediate_size", 4304))
    layers = whole(vision, "vt_num_hidden_layers", whole(vision, "num_hidden_layers", 27))
    height = whole(vision, "init_pos_emb_height", whole(vision, "pos_emb_height", 64))
    width = whole(vision, "init_pos_emb_width", whole(vision, "pos_emb_width", 64))
    tower = patches(hidden, side(vision, "patch_size", 14), bias=True) + height * width * hidden
    return tower + blocks(layers, hidden, inner) + layernorm(hidden)


def glm_ocr(vision: Config) -> int:
    """Count GLM-OCR's tower: biases, norms of queries and keys, a merger three times as wide."""
    hidden, layers = whole(vision, "hidden_size", 1024), whole(vision, "depth", 24)
    out, inner = whole(vision, "out_hidden_size", 1536), whole(vision, "intermediate_size", 4096)
    biased = flag(vision, "attention_bias", True)
    patch, frames = side(vision, "patch_size", 14), whole(vision, "temporal_patch_size", 2)
    joined = whole(vision, "spatial_merge_size", 2) ** 2
    each = blocks(
        layers,
        hidden,
        inner,
        gated=True,
        attention_biases=4 if biased else 0,
        mlp_bias=biased,
        norms=2,
        more=2 * (hidden // whole(vision, "num_heads", 16)),
    )
    wide = out * whole(vision, "in_channels", 3)
    merger = linear(out, out, bias=False) + layernorm(out) + 3 * out * wide
    tower = patches(hidden, patch, frames=frames, bias=True) + each + hidden
    return tower + linear(hidden * joined, out) + merger


def muse(vision: Config) -> int:
    """Count Muse Glimmer's tower: patches of two frames, a table of positions, norms around it."""
    hidden, layers = whole(vision, "hidden_size", 1536), whole(vision, "num_hidden_layers", 50)
    patch, frames = side(vision, "patch_size", 14), whole(vision, "patch_temporal", 2)
    rows = whole(vision, "pos_emb_height", 32) * whole(vision, "pos_emb_width", 32)
    tower = patches(hidden, patch, frames=frames, bias=False) + rows * hidden
    inner = whole(vision, "intermediate_size", 8960)
    return tower + 2 * layernorm(hidden) + blocks(layers, hidden, inner)


def sam(vision: Config) -> int:
    """Count SAM's tower with relative positions, its neck, and two convolutions that narrow it."""
    hidden, layers = whole(vision, "hidden_size", 768), whole(vision, "num_hidden_layers", 12)
    patch, out = side(vision, "patch_size", 16), whole(vision, "output_channels", 256)
    rows = side(vision, "image_size", 1024) // patch
    head = hidden // whole(vision, "num_attention_heads", 12)
    windows, all_ = whole(vision, "window_size", 14), vision.get("global_attn_indexes")
    full = len(all_) if isinstance(all_, list) else 4
    relative = 2 * head * (full * (2 * rows - 1) + (layers - full) * (2 * windows - 1))
    narrow = vision.get("downsample_channels")
    widths = [out, *map(int, narrow if isinstance(narrow, list) else (512, 1024))]
    neck = hidden * out + 9 * out * out + 2 * layernorm(out)
    convolutions = sum(9 * a * b for a, b in pairwise(widths))
    tower = patches(hidden, patch, bias=True) + rows * rows * hidden + relative
    inner = whole(vision, "mlp_dim", 4 * hidden)
    return tower + blocks(layers, hidden, inner) + neck + convolutions


def ernie(vision: Config) -> int:
    """Count ERNIE 4.5's tower: Qwen2-VL's without its merger, a norm behind."""
    hidden, layers = whole(vision, "hidden_size", 1280), whole(vision, "depth", 32)
    inner = whole(vision, "intermediate_size", 5120)
    tower = patches(hidden, side(vision, "patch_size", 14), bias=False) + layernorm(hidden)
    return tower + blocks(layers, hidden, inner)


TOWERS: dict[str, Callable[[Config], int]] = {
    "clip_vision_model": clip,
    "siglip_vision_model": siglip,
    "siglip2_vision_model": siglip,
    "pixtral": pixtral,
    "intern_vit_6b": internvit,
    "internvl_vision": internvit,
}
"""By ``model_type`` of a ``vision_config``, for wrappers that take several."""
