"""Tiny decoders of every shape, with weights large enough for attention to matter."""

import torch

from model.mixers.mixer import Rotary
from model.spec import DecoderSpec
from model.torch.attention import Kernel
from model.torch.decoder import Decoder
from tests.decoders import LLAMA_LIKE, changed

LLAMA = changed(LLAMA_LIKE, rotary=Rotary(10_000.0))
GPT2 = changed(
    LLAMA,
    name="tiny-gpt2",
    architecture="gpt2",
    num_kv_heads=4,
    width=128,
    gated=False,
    activation="gelu_tanh",
    norm="layernorm",
    eps=1e-5,
    position_rows=64,
    rotary=None,
    qkv_bias=True,
    output_bias=True,
    bias=True,
    tied=True,
)
OPT = changed(GPT2, name="tiny-opt", architecture="opt", activation="relu", position_rows=66)
QWEN2 = changed(LLAMA, name="tiny-qwen2", architecture="qwen2", qkv_bias=True)
QWEN3 = changed(LLAMA, name="tiny-qwen3", architecture="qwen3", head_dim=16, qk_norm=True)
MISTRAL = changed(LLAMA, name="tiny-mistral", architecture="mistral", sliding_window=5)
ONE_HEAD = changed(LLAMA, name="one-head", num_heads=1, num_kv_heads=1, head_dim=32)
TIED_BIASED = changed(
    LLAMA,
    name="tied-biased-llama",
    num_kv_heads=1,
    output_bias=True,
    qkv_bias=True,
    bias=True,
    tied=True,
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
