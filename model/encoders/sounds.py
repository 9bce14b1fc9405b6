"""Encoders of sounds: parameters by the keys of their ``audio_config``."""

from model.config_keys import Config, flag, whole
from model.encoders.tower import blocks, layernorm, linear


def whisper(audio: Config, *, positions: int = 1500, mels: int = 128) -> int:
    """Count Whisper's encoder: two convolutions, positions, keys without biases, a norm behind.

    Args:
        audio: the ``audio_config``.
        positions: rows of the table of positions where the file does not say; 0: they rotate.
        mels: bins of the spectrum where the file does not say.
    """
    hidden = whole(audio, "hidden_size", whole(audio, "d_model", 1280))
    layers = whole(audio, "num_hidden_layers", whole(audio, "encoder_layers", 32))
    inner = whole(audio, "intermediate_size", whole(audio, "encoder_ffn_dim", 5120))
    convolutions = linear(3 * whole(audio, "num_mel_bins", mels), hidden)
    convolutions += linear(3 * hidden, hidden)
    rows = whole(audio, "max_source_positions", positions) if positions else 0
    each = blocks(layers, hidden, inner, attention_biases=3)
    return convolutions + rows * hidden + each + layernorm(hidden)


def gemma4(audio: Config) -> int:
    """Count Gemma 4's Conformer: two MLPs, attention and a convolution a layer, no biases."""
    hidden, layers = whole(audio, "hidden_size", 1024), whole(audio, "num_hidden_layers", 12)
    heads, kernel = whole(audio, "num_attention_heads", 8), whole(audio, "conv_kernel_size", 5)
    given = audio.get("subsampling_conv_channels")
    first, second = given if isinstance(given, list) and len(given) == 2 else (128, 32)
    into = first // 4 * second  # of the 128 bins a quarter is left, written by the first channels
    convolutions = 9 * first + first + 9 * first * second + second + into * hidden
    mlp = 2 * 4 * hidden * hidden + 2 * hidden
    attention = 5 * hidden * hidden + hidden // heads  # keys of relative positions, scales
    convolution = 3 * hidden * hidden + kernel * hidden + 2 * hidden
    each = 2 * mlp + attention + convolution + 3 * hidden
    return convolutions + layers * each + linear(hidden, whole(audio, "output_proj_dims", 1536))


def qwen3(audio: Config) -> int:
    """Count the encoder of Qwen3-ASR: three convolutions that halve the bins."""
    hidden, layers = whole(audio, "d_model", 1024), whole(audio, "encoder_layers", 24)
    inner, wide = whole(audio, "encoder_ffn_dim", 4096), whole(audio, "downsample_hidden_size", 480)
    bins = whole(audio, "num_mel_bins", 128)
    for _ in range(3):
        bins = (bins + 1) // 2
    convolutions = linear(9, wide) + 2 * linear(9 * wide, wide)
    convolutions += linear(wide * bins, hidden, bias=False)
    return convolutions + blocks(layers, hidden, inner) + layernorm(hidden)


def parakeet(audio: Config) -> int:
    """Count Parakeet's fast Conformer: convolutions that halve mels and frames, then its layers.

    A layer has two MLPs, attention with keys of relative positions and a convolution. Attention
    and MLPs have biases where ``attention_bias`` says so, convolutions ``convolution_bias``.
    """
    hidden, layers = whole(audio, "hidden_size", 1024), whole(audio, "num_hidden_layers", 24)
    inner, kernel = whole(audio, "intermediate_size", 4096), whole(audio, "conv_kernel_size", 9)
    wide, area = (
        whole(audio, "subsampling_conv_channels", 256),
        whole(audio, "subsampling_conv_kernel_size", 3) ** 2,
    )
    halved = whole(audio, "subsampling_factor", 8).bit_length() - 1
    bins = whole(audio, "num_mel_bins", 80) // 2**halved
    front = halved * linear(area, wide) + (halved - 1) * linear(wide, wide)
    front += linear(wide * bins, hidden)
    biased, turned = flag(audio, "attention_bias", True), flag(audio, "convolution_bias", True)
    mlp = linear(hidden, inner, bias=biased) + linear(inner, hidden, bias=biased)
    attention = 4 * linear(hidden, hidden, bias=biased) + hidden * hidden + 2 * hidden
    convolution = linear(hidden, 2 * hidden, bias=turned) + linear(hidden, hidden, bias=turned)
    convolution += linear(kernel, hidden, bias=turned) + 2 * hidden
    return front + layers * (2 * mlp + attention + convolution + 5 * layernorm(hidden))
