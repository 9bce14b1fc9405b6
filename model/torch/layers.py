"""Layers of the torch decoder: norms, matrix products, attention and MLP around a residual."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.dataclass import dataclass
from model.mixers.attention import Attention
from model.mlps.dense import Dense
from model.norm import Norm as NormShape
from model.torch.attention import Kernel, attend
from model.torch.rope import rotate
from model.torch.step_plan import StepPlan

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What every layer of one step shares."""

    plan: StepPlan
    kernel: Kernel
    rotation: tuple[Tensor, Tensor] | None


class Norm(nn.Module):
    """RMSNorm (a weight) or LayerNorm (a weight and a bias) over the last dimension."""

    bias: Tensor | None

    def __init__(
        self, size: int, kind: str, eps: float, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = parameter((size,), device, dtype)
        self.bias = parameter((size,), device, dtype) if kind == "layernorm" else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., size]."""
        shape = self.weight.shape
        if self.bias is None:
            return F.rms_norm(x, shape, self.weight, self.eps)
        return F.layer_norm(x, shape, self.weight, self.bias, self.eps)


class Linear(nn.Module):
    """A matrix [outputs, inputs] and perhaps a bias; like nn.Linear, but left uninitialised."""

    bias: Tensor | None

    def __init__(
        self, inputs: int, outputs: int, bias: bool, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.weight = parameter((outputs, inputs), device, dtype)
        self.bias = parameter((outputs,), device, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., inputs] to [..., outputs]."""
        return F.linear(x, self.weight, self.bias)


class Block(nn.Module):
    """One layer: attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(
        self,
        attention: Attention,
        mlp: Dense,
        norm_of: NormShape,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        linear = partial(Linear, device=device, dtype=dtype)
        norm = partial(Norm, eps=norm_of.eps, device=device, dtype=dtype)
        self.attention, self.gated = attention, mlp.gated
        self.activation = ACTIVATIONS[mlp.activation]
        hidden, inner, queries = mlp.hidden_size, mlp.width, attention.query_size
        up = 2 * inner if mlp.gated else inner
        self.input_norm = norm(hidden, norm_of.kind)
        self.qkv_proj = linear(hidden, queries + 2 * attention.kv_size, attention.qkv_bias)
        self.q_norm = norm(attention.head_dim, "rmsnorm") if attention.qk_norm else None
        self.k_norm = norm(attention.head_dim, "rmsnorm") if attention.qk_norm else None
        self.o_proj = linear(queries, hidden, attention.output_bias)
        self.post_norm = norm(hidden, norm_of.kind)
        self.up_proj = linear(hidden, up, mlp.bias)
        self.down_proj = linear(inner, hidden, mlp.bias)

    def forward(self, x: Tensor, step: Step, cache: tuple[Tensor, Tensor] | None) -> Tensor:
        """Run the layer on [rows, hidden]; ``cache`` is the layer's keys and values."""
        own = self.attention
        heads: Tensor = self.qkv_proj(self.input_norm(x)).view(len(x), -1, own.head_dim)
        queries, keys = own.num_heads, own.num_kv_heads
        rotated, value = heads[:, : queries + keys], heads[:, queries + keys :]
        if self.q_norm is not None and self.k_norm is not None:
            query, key = rotated[:, :queries], rotated[:, queries:]
            rotated = torch.cat((self.q_norm(query), self.k_norm(key)), 1)
        if step.rotation is not None:
            rotated = rotate(rotated, *step.rotation)
        query, key = rotated[:, :queries], rotated[:, queries:]
        mixed = attend(
            query,
            key,
            value,
            step.plan,
            kernel=step.kernel,
            window=own.sliding_window,
            cache=cache,
        )
        x = x + self.o_proj(mixed)
        inner: Tensor = self.up_proj(self.post_norm(x))
        if self.gated:
            gate, up = inner.chunk(2, dim=-1)
            inner = self.activation(gate) * up
        else:
            inner = self.activation(inner)
        output: Tensor = x + self.down_proj(inner)
        return output


def parameter(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> nn.Parameter:
    """Return an uninitialised parameter that asks for no gradient."""
    return nn.Parameter(torch.empty(shape, device=device, dtype=dtype), requires_grad=False)
