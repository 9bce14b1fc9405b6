"""Tiny decoders of every shape, with weights large enough for attention to matter."""

from dataclasses import replace

import torch

from model.attention import Kernel
from model.decoder import Decoder
from model.spec import DecoderSpec

LLAMA = DecoderSpec(
    name="tiny-llama",
    architecture="llama",
    num_layers=2,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    intermediate_size=48,
    vocab_size=61,
    max_position_embeddings=64,
    max_model_len=64,
    gated_mlp=True,
    activation="silu",
    norm="rmsnorm",
    norm_eps=1e-6,
    positions="rope",
    position_rows=0,
    rope_theta=10_000.0,
    qkv_bias=False,
    output_bias=False,
    mlp_bias=False,
    qk_norm=False,
    tied_embeddings=False,
    sliding_window=None,
)
GPT2 = replace(
    LLAMA,
    name="tiny-gpt2",
    architecture="gpt2",
    num_kv_heads=4,
    intermediate_size=128,
    gated_mlp=False,
    activation="gelu_tanh",
    norm="layernorm",
    norm_eps=1e-5,
    positions="learned",
    position_rows=64,
    rope_theta=0.0,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    tied_embeddings=True,
)
OPT = replace(GPT2, name="tiny-opt", architecture="opt", activation="relu", position_rows=66)
QWEN2 = replace(LLAMA, name="tiny-qwen2", architecture="qwen2", qkv_bias=True)
QWEN3 = replace(LLAMA, name="tiny-qwen3", architecture="qwen3", head_dim=16, qk_norm=True)
MISTRAL = replace(LLAMA, name="tiny-mistral", architecture="mistral", sliding_window=5)
ONE_HEAD = replace(LLAMA, name="one-head", num_heads=1, num_kv_heads=1, head_dim=32)
TIED_BIASED = replace(
    LLAMA,
    name="tied-biased-llama",
    num_kv_heads=1,
    output_bias=True,
    qkv_bias=True,
    mlp_bias=True,
    tied_embeddings=True,
    activation="gelu",
)
SHAPES = (LLAMA, GPT2, OPT, QWEN2, QWEN3, MISTRAL, ONE_HEAD, TIED_BIASED)


def small_decoder(
    spec: DecoderSpec,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    kernel: Kernel | None = None,
) -> Decoder:
    """A decoder whose every parameter, norms and biases included, is random."""
    decoder = Decoder(spec, dtype=dtype, kernel=kernel)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in decoder.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        parameter.copy_(1 + 0.3 * drawn if is_scale else 0.3 * drawn)
    return decoder


def random_tokens(spec: DecoderSpec, *lengths: int, seed: int = 1) -> list[torch.Tensor]:
    """Random token ids, one sequence per length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(spec.vocab_size, (length,), generator=generator) for length in lengths]
