"""One operator of a step: what it computes and moves."""

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass

F = float | npt.NDArray[np.float64]
"""One count, or one count per step."""

NORM_FLOPS = {"rmsnorm": 4, "layernorm": 7}
"""FLOPs per element. RMSNorm: square, sum, scale, weight. LayerNorm: sum, subtract, square, sum,
scale, weight, bias."""

ACTIVATION_FLOPS = {
    "relu": 1, "relu2": 2, "silu": 4, "gelu": 5, "gelu_quick": 5, "gelu_tanh": 9, "xielu": 9,
    "situ": 9,
}  # fmt: skip
"""FLOPs per element, a transcendental function counted as one. silu: negate, exp, add, divide;
gelu: scale, erf, add, multiply, halve; gelu_quick: silu of a scaled input; gelu_tanh: gelu with a
cubic inside tanh; xielu: two squares, two products, exp and their sums (arXiv 2411.13010); situ: a
sigmoid and a hyperbolic tangent, each of a scaled input (Kimi K3), taken like gelu_tanh."""

ROPE_FLOPS = 3
"""FLOPs per element of a rotation: two products and a sum."""

SOFTMAX_FLOPS = 3
"""FLOPs per score: subtract the maximum and exponentiate, sum, divide (maximum not counted)."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: what one of its ``layers`` executions computes and moves."""

    name: str
    kind: str
    """gemm, attention, norm, elementwise or gather."""
    layers: int
    """Executions in one step; the counts are those of one of them."""
    flops: F
    weight_bytes: F
    """Read."""
    activation_bytes: F
    """Read and written."""
    kv_bytes: F
    """Read from and written to the KV cache."""
    gemm: tuple[F, int, int] | None = None
    """(m, n, k) of a matrix product, ``flops == 2 m n k``; None for every other kind."""
    groups: int = 1
    """Matrices side by side over which the m rows are spread: experts of a mixture."""
    compute: str = "bf16"
    """Arithmetic whose peak bounds it, as in `Precision.product`."""

    stored: str | None = None
    """Storage of the weights whose product has kernels of its own (``Scheme.kernel``)."""

    weight_only: bool = False
    """Whether a matrix product widens stored weights to the numbers that it computes with."""

    @property
    def bytes(self) -> F:
        """All traffic of one execution: weights, activations and KV cache."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes


def floats(counts: F) -> F:
    """Return counts as a float, or as an array of float64."""
    return float(counts) if np.ndim(counts) == 0 else np.asarray(counts, dtype=np.float64)


def minimum(first: F, second: F) -> F:
    """Return the smaller of two counts, elementwise."""
    return floats(np.minimum(first, second))


def where_any(rows: F, amount: F) -> F:
    """Return ``amount`` where there are rows, 0 where there are none."""
    present: F = floats(np.greater(rows, 0).astype(np.float64))
    return amount * present
