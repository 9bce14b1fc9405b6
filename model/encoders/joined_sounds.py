"""Encoders of sounds beside a language model, and the layers behind them, wrapper by wrapper.

Each counts from the whole file and from the language model's part of it.
"""

from model.config_keys import Config, flag, nested, whole
from model.encoders import images, sounds
from model.encoders.tower import layernorm, linear


def _hidden(config: Config) -> int:
    return whole(config, "hidden_size")


def qwen3_asr(config: Config, text: Config) -> int:
    """An encoder of sounds, and two matrices."""
    audio = nested(config, "audio_config")
    wide = whole(audio, "d_model", 1024)
    projector = linear(wide, wide) + linear(wide, whole(audio, "output_dim", 3584))
    return sounds.qwen3(audio) + projector


def qwen2_5_omni(config: Config, text: Config) -> int:
    """Qwen2.5-VL's tower; Whisper with fixed positions, rows around a sound, and one matrix."""
    audio = nested(config, "audio_config")
    out = whole(audio, "output_dim", 3584)
    behind = 2 * out + linear(whole(audio, "d_model", 1280), out)
    heard = sounds.whisper(audio, positions=0) + behind
    return images.qwen2_5_vl(nested(config, "vision_config")) + heard


def qwen3_omni(config: Config, text: Config) -> int:
    """Qwen3-VL's tower, and the encoder of sounds of Qwen3-ASR, wider and deeper."""
    usual = {"d_model": 1280, "encoder_layers": 32, "encoder_ffn_dim": 5120}
    heard = {"audio_config": {**usual, **nested(config, "audio_config")}}
    return images.qwen3_vl(nested(config, "vision_config")) + qwen3_asr(heard, text)


def glmasr(config: Config, text: Config) -> int:
    """Four rows joined; positions rotate."""
    audio, hidden = nested(config, "audio_config"), _hidden(text)
    wide = whole(audio, "intermediate_size", 5120)
    projector = linear(wide, 2 * hidden) + linear(2 * hidden, hidden)
    return sounds.whisper(audio, positions=0) + projector


def moss(config: Config, text: Config) -> int:
    """Whisper of 80 mels, frames merged, two matrices and a norm."""
    audio = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        **nested(config, "audio_config"),
    }  # fmt: skip
    wide = whole(audio, "hidden_size") * whole(config, "audio_merge_size", 4)
    biased, hidden = flag(config, "projector_bias", True), _hidden(text)
    projector = linear(wide, hidden, bias=biased) + linear(hidden, hidden, bias=biased)
    return sounds.whisper(audio, mels=80) + projector + layernorm(hidden)


def qwen2_audio(config: Config, text: Config) -> int:
    """Whisper, and one matrix."""
    audio = nested(config, "audio_config")
    return sounds.whisper(audio) + linear(whole(audio, "d_model", 1280), _hidden(text))


def voxtral(config: Config, text: Config) -> int:
    """Whisper, frames joined by four, and two matrices without biases."""
    audio, hidden = nested(config, "audio_config"), _hidden(text)
    wide = whole(audio, "intermediate_size", 5120)
    return sounds.whisper(audio) + wide * hidden + hidden * hidden


def nemotron(config: Config, text: Config) -> int:
    """Parakeet without biases in attention and MLPs, a norm and two matrices.

    vllm/model_executor/models/parakeet.py
    """
    audio = {**nested(config, "sound_config"), "attention_bias": False}
    wide, inner = whole(audio, "hidden_size", 1024), whole(audio, "projection_hidden_size", 4096)
    biased = flag(audio, "projection_bias", False)
    projector = linear(wide, inner, bias=biased) + linear(inner, _hidden(text), bias=biased)
    return sounds.parakeet(audio) + wide + projector
