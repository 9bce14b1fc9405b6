"""What stands beside a language model, wrapper by wrapper: its encoders and the layers behind them.

Each counts from the whole file and from the language model's part of it.
"""

from collections.abc import Mapping

from model.config_keys import Config, flag, nested, side, whole
from model.encoders import images, joined_sounds, sounds
from model.encoders.radio import radio
from model.encoders.tower import blocks, layernorm, linear, patches
from model.errors import UnknownArchitectureError, one_of

CLIP_L = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
    "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
}  # fmt: skip
PIXTRAL = {"model_type": "pixtral", "image_size": 1540, "patch_size": 14}


def _tower(vision: Config) -> int:
    kind = str(vision.get("model_type"))
    if kind not in images.TOWERS:
        known = one_of(kind, tuple(images.TOWERS))
        raise UnknownArchitectureError(
            f"vision_config.model_type = {kind!r} is not modelled, {known}"
        )
    return images.TOWERS[kind](vision)


def _given(config: Config, usual: Config) -> Config:
    """What a file says of its tower, without what is usual for the tower's own type; of a file that
    says nothing, what is usual for the wrapper."""
    given = nested(config, "vision_config")
    return {"model_type": usual["model_type"], **given} if given else usual


def _hidden(config: Config) -> int:
    return whole(config, "hidden_size")


def _features(config: Config) -> int:
    """How many layers of the tower feed the projector."""
    layers = config.get("vision_feature_layer", -2)
    return len(layers) if isinstance(layers, list) else 1


def llava(config: Config, text: Config) -> int:
    """A tower of CLIP or Pixtral, and two matrices behind it."""
    vision = _given(config, CLIP_L)
    usual = 1024 if vision["model_type"] == "pixtral" else 768
    biased, hidden = flag(config, "multimodal_projector_bias", True), _hidden(text)
    wide = whole(vision, "hidden_size", usual) * _features(config)
    projector = linear(wide, hidden, bias=biased) + linear(hidden, hidden, bias=biased)
    return _tower(vision) + projector


def llava_next(config: Config, text: Config) -> int:
    """A row between the lines of an image, besides."""
    return llava(config, text) + _hidden(text)


def mistral3(config: Config, text: Config) -> int:
    """Pixtral, patches merged and normed, and two matrices."""
    vision = _given(config, PIXTRAL)
    wide, hidden = whole(vision, "hidden_size", 1024), _hidden(text)
    biased = flag(config, "multimodal_projector_bias", False)
    merged = whole(config, "spatial_merge_size", 2) ** 2
    merger = wide + wide * merged * wide
    projector = linear(wide * _one(config), hidden, bias=biased) + linear(
        hidden, hidden, bias=biased
    )
    return images.pixtral(vision) + merger + projector


def lighton_ocr(config: Config, text: Config) -> int:
    """As Mistral's, of one layer of the tower and without biases."""
    given = {"vision_feature_layer": -1, "multimodal_projector_bias": False}
    size = {"spatial_merge_size": config.get("spatial_merge_size", 2)}
    vision = {"hidden_size": 1024, **nested(config, "vision_config")}
    return mistral3({**given, **size, "vision_config": vision}, text)


def cohere_vision(config: Config, text: Config) -> int:
    """SigLIP, patches merged, and a gated MLP; Aya's has a norm before."""
    aya, vision = config.get("model_type") == "aya_vision", nested(config, "vision_config")
    merged = whole(config, "downsample_factor", 2) ** 2
    wide, hidden = merged * whole(vision, "hidden_size", 768), _hidden(text)
    inner = whole(config, "alignment_intermediate_size", hidden if aya else 36_864)
    projector = linear(wide, inner) + linear(inner // 2, hidden)
    return images.siglip(vision) + (layernorm(wide) if aya else 0) + projector


def minicpm_v(config: Config, text: Config) -> int:
    """SigLIP without its head, in whose middle attention in windows merges patches; MLPs behind."""
    vision = {"vision_use_head": False, **nested(config, "vision_config")}
    wide, inner = whole(vision, "hidden_size", 768), whole(vision, "intermediate_size", 3072)
    window = vision.get("window_kernel_size")
    high, across = window if isinstance(window, list | tuple) and len(window) == 2 else (2, 2)
    merged = high * across
    middle = 4 * linear(wide, wide) + layernorm(wide) + layernorm(merged * wide)
    middle += linear(merged * wide, merged * inner) + linear(merged * inner, wide)
    behind = layernorm(4 * wide) + linear(4 * wide, 4 * wide)
    times = whole(config, "merger_times", 1)
    ends = (times - 1) * linear(4 * wide, wide) + linear(4 * wide, _hidden(text))
    return images.siglip(vision) + middle + times * behind + ends


def _one(config: Config) -> int:
    return _features({"vision_feature_layer": config.get("vision_feature_layer", -1)})


def llama4(config: Config, text: Config) -> int:
    """Its own tower, and one matrix."""
    vision = nested(config, "vision_config")
    return images.llama4(vision) + whole(vision, "vision_output_dim", 7680) * _hidden(text)


def gemma3(config: Config, text: Config) -> int:
    """SigLIP without its head, a norm and one matrix."""
    vision = {"vision_use_head": False, **nested(config, "vision_config")}
    wide = whole(vision, "hidden_size", 768)
    return images.siglip(vision) + wide * _hidden(text) + wide


def gemma4(config: Config, text: Config) -> int:
    """Its own tower and one matrix; of smaller models a Conformer and one matrix as well.

    A file that has none, or null, has no tower.
    """
    vision, audio, count = nested(config, "vision_config"), config.get("audio_config"), 0
    if isinstance(config.get("vision_config"), Mapping):
        count = images.gemma4(vision) + whole(vision, "hidden_size", 768) * _hidden(text)
    if not isinstance(audio, Mapping):
        return count
    heard = nested(config, "audio_config")
    return count + sounds.gemma4(heard) + whole(heard, "output_proj_dims", 1536) * _hidden(text)


def gemma4_unified(config: Config, text: Config) -> int:
    """No towers: patches and frames of sound go through norms and matrices of their own."""
    vision, audio = nested(config, "vision_config"), nested(config, "audio_config")
    edge = side(vision, "patch_size", 16) * whole(vision, "pooling_kernel_size", 3)
    wide, pixels = whole(vision, "mm_embed_dim", 3840), 3 * edge**2
    rows = 2 * whole(vision, "mm_posemb_size", 1120)
    patches = layernorm(pixels) + linear(pixels, wide) + 2 * layernorm(wide) + rows * wide
    seen = patches + whole(vision, "output_proj_dims", 3840) * _hidden(text)
    seen = seen if isinstance(config.get("vision_config"), Mapping) else 0
    heard = whole(audio, "audio_embed_dim", 640) if config.get("audio_config") else 0
    return seen + heard * _hidden(text)


def lfm2_vl(config: Config, text: Config) -> int:
    """SigLIP 2, patches merged, a norm and two matrices."""
    vision = {"model_type": "siglip2_vision_model", **nested(config, "vision_config")}
    wide = whole(vision, "hidden_size", 768) * whole(config, "downsample_factor", 2) ** 2
    inner, biased = (
        whole(config, "projector_hidden_size", 2560),
        flag(config, "projector_bias", True),
    )
    norm = layernorm(wide) if flag(config, "projector_use_layernorm", True) else 0
    projector = linear(wide, inner, bias=biased) + linear(inner, _hidden(text), bias=biased)
    return images.siglip(vision) + norm + projector


def internvl(config: Config, text: Config) -> int:
    """InternViT, patches joined by four, a norm and two matrices."""
    vision, hidden = nested(config, "vision_config"), _hidden(text)
    wide = whole(vision, "hidden_size", 1024) * 4
    return (
        images.internvit(vision) + layernorm(wide) + linear(wide, hidden) + linear(hidden, hidden)
    )


def nemotron_vl(config: Config, text: Config) -> int:
    """C-RADIO, patches joined by four, a norm and two matrices; vllm's ``nano_nemotron_vl.py``.

    Beside it, where the file has one, an encoder of sounds.
    """
    heard = joined_sounds.nemotron(config, text) if config.get("sound_config") else 0
    wide = whole(config, "vit_hidden_size", 1280) * 4
    inner, hidden = whole(config, "projector_hidden_size", 20480), _hidden(text)
    projector = wide + linear(wide, inner, bias=False) + linear(inner, hidden, bias=False)
    return radio(nested(config, "vision_config")) + projector + heard


def kimi(config: Config, text: Config) -> int:
    """MoonViT, patches joined by four, and two matrices."""
    vision = nested(config, "vision_config")
    wide = whole(vision, "vt_hidden_size", whole(vision, "hidden_size", 1152))
    joined = wide * 4
    projector = layernorm(wide) + linear(joined, joined) + linear(joined, _hidden(text))
    return images.moonvit(vision) + projector


def kimi_k3(config: Config, text: Config) -> int:
    """A tower without biases, whose attention is wider than its stream."""
    vision = nested(config, "vision_config")
    wide, inner = whole(vision, "vt_hidden_size", 1024), whole(vision, "vt_intermediate_size", 4096)
    mixed, layers = (
        whole(vision, "qkv_hidden_size", wide),
        whole(vision, "vt_num_hidden_layers", 27),
    )
    places = whole(vision, "init_pos_emb_height", 64) * whole(vision, "init_pos_emb_width", 64)
    patch = 3 * whole(vision, "patch_size", 14) ** 2
    layer = 4 * wide * mixed + 2 * wide * inner + 2 * wide
    projector = (4 * wide) ** 2 + 4 * wide * _hidden(text) + wide
    return (patch + places + 1) * wide + layers * layer + projector


def llava_onevision(config: Config, text: Config) -> int:
    """LLaVA-NeXT's with SigLIP."""
    vision = {
        "model_type": "siglip_vision_model", "vision_use_head": False, "hidden_size": 1152,
        "intermediate_size": 4304, "num_hidden_layers": 26, "image_size": 384, "patch_size": 14,
    }  # fmt: skip
    given = {"vision_config": _given(config, vision)}
    return llava_next({"vision_feature_layer": -1, **config, **given}, text)


def idefics3(config: Config, text: Config) -> int:
    """A tower like SigLIP's; a matrix behind joins patches."""
    usual = {"vision_use_head": False, "hidden_size": 1152, "patch_size": 32}
    vision = {**usual, **nested(config, "vision_config")}
    wide = whole(vision, "hidden_size") * whole(config, "scale_factor", 2) ** 2
    return images.siglip(vision) + linear(wide, _hidden(text), bias=False)


def paligemma(config: Config, text: Config) -> int:
    """SigLIP without its head, and one matrix."""
    vision = {"vision_use_head": False, **nested(config, "vision_config")}
    out = whole(config, "projection_dim", 2048)
    return images.siglip(vision) + linear(whole(vision, "hidden_size", 768), out)


def paddleocr(config: Config, text: Config) -> int:
    """SigLIP, patches merged, a norm and two matrices."""
    vision = {
        "vision_use_head": False, "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 27, "image_size": 384, "patch_size": 14,
        **nested(config, "vision_config"),
    }  # fmt: skip
    wide = whole(vision, "hidden_size")
    joined = wide * whole(vision, "spatial_merge_size", 2) ** 2
    projector = layernorm(wide) + linear(joined, joined) + linear(joined, _hidden(text))
    return images.siglip(vision) + projector


def hunyuan_vl(config: Config, text: Config) -> int:
    """The tower with positions of the largest image; two convolutions and a matrix, rows around."""
    vision, hidden = nested(config, "vision_config"), _hidden(text)
    wide, inner = whole(vision, "hidden_size", 1152), whole(vision, "intermediate_size", 4304)
    patch, merged = side(vision, "patch_size", 16), whole(vision, "spatial_merge_size", 2)
    rows = (whole(vision, "max_image_size", 2048) // patch) ** 2 + 1
    tower = patches(wide, patch, bias=True) + rows * wide
    tower += blocks(whole(vision, "num_hidden_layers", 27), wide, inner)
    joining = linear(wide * merged**2, 2 * wide) + linear(2 * wide, 4 * wide)
    return tower + joining + linear(4 * wide, hidden) + 5 * wide + 4 * hidden


def ernie_vl(config: Config, text: Config) -> int:
    """The tower, what joins patches and frames, and the experts that tokens of images go to."""
    vision, hidden = nested(config, "vision_config"), _hidden(text)
    joined = whole(vision, "hidden_size", 1280) * whole(vision, "spatial_merge_size", 2) ** 2
    spatial = 2 * linear(joined, joined) + layernorm(joined)
    frames = whole(vision, "temporal_merge_size", whole(config, "temporal_conv_size", 2))
    temporal = linear(frames * joined, joined) + linear(joined, joined) + layernorm(joined)
    resampler = spatial + temporal + linear(joined, hidden) + hidden
    experts, width = (
        _second(text, "moe_num_experts", 64),
        _second(text, "moe_intermediate_size", 512),
    )
    routed = experts * (3 * hidden * width + hidden + 1)
    layers, kinds = whole(text, "num_hidden_layers"), text.get("mlp_layer_types")
    if isinstance(kinds, list):
        sparse = sum(1 for kind in kinds if kind == "sparse")
    else:
        last = min(layers - 1, _second(text, "moe_layer_end_index", layers - 1))
        sparse = last - _second(text, "moe_layer_start_index", 1) + 1
    return images.ernie(vision) + resampler + sparse * routed


def _second(text: Config, key: str, usual: int) -> int:
    """What a list says of images; it says it of texts first."""
    value = text.get(key)
    return whole({key: value[-1]} if isinstance(value, list) and value else text, key, usual)


def muse(config: Config, text: Config) -> int:
    """A tower, an adapter of two matrices, and a matrix to the text's width; none has a bias."""
    vision, inner = nested(config, "vision_config"), whole(config, "projector_hidden_size", 4096)
    adapter = whole(config, "out_hidden_size", 6144) * inner + inner * inner
    return images.muse(vision) + adapter + inner * _hidden(text)


def deepseek_ocr(config: Config, text: Config) -> int:
    """SAM's tower, CLIP's on what it makes of patches, a matrix, and two rows between images.

    The files name the towers only; they have the sizes of SAM-B and CLIP-L. In DeepSeek-OCR-2
    Qwen2-0.5B reads what SAM makes of patches, with rows of its own for 144 or 256 answers.
    """
    towers = nested(config, "vision_config").get("model_name", "deeplip_b_l")
    if towers not in ("deeplip_b_l", "deepencoderv2"):
        raise UnknownArchitectureError(
            f"vision_config.model_name = {str(towers)[:80]!r} is not modelled, expected "
            "deeplip_b_l or deepencoderv2, the towers of DeepSeek-OCR"
        )
    if config.get("architectures") == ["DeepseekOCR2ForCausalLM"]:
        attention = 2 * 896 * 896 + 2 * 896 * 128 + 896 + 2 * 128
        tower = 24 * (attention + 3 * 896 * 4864 + 2 * 896) + 896 + (144 + 256) * 896
        return (
            images.sam({"downsample_channels": [512, 896]})
            + tower
            + (linear(896, _hidden(text)) + _hidden(text))
        )
    tower = images.clip({"image_size": 224, "patch_size": 14}, hidden=1024, inner=4096, layers=24)
    patches = 3 * 14 * 14 * 1024 + layernorm(1024)  # SAM's rows take their place; no norm behind
    hidden = _hidden(text)
    return images.sam({}) + tower - patches + linear(2048, hidden) + 2 * hidden


def minimax_m3(config: Config, text: Config) -> int:
    """CLIP's layers on patches of frames, two matrices, and two more on merged patches."""
    vision = nested(config, "vision_config")
    joining = nested(vision, "img_token_compression_config")
    hidden, layers = whole(vision, "hidden_size", 1280), whole(vision, "num_hidden_layers", 32)
    frames = whole(vision, "temporal_patch_size", whole(joining, "temporal_patch_size", 2))
    side_ = whole(vision, "spatial_merge_size", whole(joining, "spatial_merge_size", 2))
    patch, inner = side(vision, "patch_size", 14), whole(vision, "intermediate_size", 5120)
    tower = patches(hidden, patch, frames=frames, bias=False) + layernorm(hidden)
    out, wide = _hidden(text), whole(config, "projector_hidden_size", 6144)
    projector = linear(hidden, wide) + linear(wide, out)
    merger = linear(out * side_**2, wide) + linear(wide, out)
    return tower + blocks(layers, hidden, inner) + projector + merger


PHI4_MULTIMODAL = 5_308_268_992 - 3_836_021_760
"""Of the encoders of images and sounds and their projections in the one model of its kind, as
transformers counts them: the whole less the language model. Adapters (LoRA) are not loaded."""


def phi4mm(config: Config, text: Config) -> int:
    """The one count there is: the files do not tell the sizes of its encoders."""
    return PHI4_MULTIMODAL
