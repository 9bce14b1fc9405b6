"""A decoder in plain numpy float64, one sequence and one head at a time: slow and obvious.

Written from the equations, apart from the torch decoder; it shares only the parameters' names.
"""

import math
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from model.spec import DecoderSpec
from tests.decoders import flat

Array = npt.NDArray[np.float64]


def numpy_logits(decoder: DecoderSpec, weights: dict[str, Array], tokens: list[int]) -> Array:
    """Logits [length, vocab] of every position of one sequence."""
    spec = flat(decoder)
    x = weights["embedding"][tokens].copy()
    if spec.rotary is None:
        for position in range(len(tokens)):
            row = position + 2 if spec.architecture == "opt" else position
            x[position] += weights["position_embedding"][row]
    for layer in range(spec.num_layers):
        own = {
            name.removeprefix(f"blocks.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{layer}.")
        }
        x = x + _linear(own, "o_proj", _attention(spec, own, _norm(spec, own, "input_norm", x)))
        x = x + _mlp(spec, own, _norm(spec, own, "post_norm", x))
    head = weights["embedding"] if spec.tied else weights["lm_head"]
    return _norm(spec, weights, "final_norm", x) @ head.T


def _linear(weights: dict[str, Array], name: str, x: Array) -> Array:
    product: Array = x @ weights[f"{name}.weight"].T
    if f"{name}.bias" in weights:
        product = product + weights[f"{name}.bias"]
    return product


def _norm(spec: SimpleNamespace, weights: dict[str, Array], name: str, x: Array) -> Array:
    if spec.norm == "rmsnorm":
        return _rms(x, spec.eps) * weights[f"{name}.weight"]
    centred = x - x.mean(axis=-1, keepdims=True)
    return _rms(centred, spec.eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _rms(x: Array, eps: float) -> Array:
    mean_square: Array = (x**2).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + eps)


def _attention(spec: SimpleNamespace, weights: dict[str, Array], x: Array) -> Array:
    qkv = _linear(weights, "qkv_proj", x)
    width = spec.head_dim
    heads = [qkv[:, i * width : (i + 1) * width] for i in range(qkv.shape[1] // width)]
    queries = heads[: spec.num_heads]
    keys = heads[spec.num_heads : spec.num_heads + spec.num_kv_heads]
    values = heads[spec.num_heads + spec.num_kv_heads :]
    if spec.qk_norm:
        queries = [_rms(q, spec.eps) * weights["q_norm.weight"] for q in queries]
        keys = [_rms(k, spec.eps) * weights["k_norm.weight"] for k in keys]
    if spec.rotary is not None:
        queries = [_rotated(q, spec.theta) for q in queries]
        keys = [_rotated(k, spec.theta) for k in keys]
    mixed = np.zeros((len(x), spec.num_heads * width))
    for head, query in enumerate(queries):
        shared = head * spec.num_kv_heads // spec.num_heads
        for t in range(len(x)):
            first = 0 if spec.sliding_window is None else max(0, t + 1 - spec.sliding_window)
            scores = keys[shared][first : t + 1] @ query[t] / math.sqrt(width)
            weight = np.exp(scores - scores.max())
            weight /= weight.sum()
            mixed[t, head * width : (head + 1) * width] = weight @ values[shared][first : t + 1]
    return mixed


def _rotated(head: Array, theta: float) -> Array:
    """Turn the pair (i, i + d/2) at position t by t * theta^(-2i/d), as a complex number."""
    half = head.shape[1] // 2
    turned = np.zeros_like(head)
    for t in range(len(head)):
        for i in range(half):
            angle = t * theta ** (-i / half)
            pair = complex(head[t, i], head[t, i + half]) * complex(
                math.cos(angle), math.sin(angle)
            )
            turned[t, i], turned[t, i + half] = pair.real, pair.imag
    return turned


def _mlp(spec: SimpleNamespace, weights: dict[str, Array], x: Array) -> Array:
    inner = _linear(weights, "up_proj", x)
    if spec.gated:
        gate, up = inner[:, : spec.width], inner[:, spec.width :]
        inner = _activation(spec.activation, gate) * up
    else:
        inner = _activation(spec.activation, inner)
    return _linear(weights, "down_proj", inner)


def _activation(name: str, x: Array) -> Array:
    scale: Array
    if name == "silu":
        scale = 1 / (1 + np.exp(-x))
    elif name == "relu":
        scale = (x > 0).astype(np.float64)
    elif name == "gelu_tanh":
        scale = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    else:
        scale = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x * scale
