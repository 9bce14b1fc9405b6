"""One operator of a step, and the builders of its common kinds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.precision import Precision
from model.quantization.scheme import Scheme
from model.spec import DecoderSpec

F = float | npt.NDArray[np.float64]
"""One count, or one count per step."""

NORM_FLOPS = {"rmsnorm": 4, "layernorm": 7}
"""FLOPs per element. RMSNorm: square, sum, scale, weight. LayerNorm: sum, subtract, square, sum,
scale, weight, bias."""

ACTIVATION_FLOPS = {"relu": 1, "silu": 4, "gelu": 5, "gelu_tanh": 9}
"""FLOPs per element, a transcendental function counted as one. silu: negate, exp, add, divide;
gelu: scale, erf, add, multiply, halve; gelu_tanh: the same with a cubic inside tanh."""

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


def gemm(
    name: str,
    layers: int,
    rows: F,
    n: int,
    k: int,
    precision: Precision,
    *,
    bias: bool = False,
    scheme: Scheme | None = None,
) -> Operator:
    """Return (rows, k) times (k, n): ``2 rows n k`` FLOPs; every matrix moves once.

    A bias is read but adds no FLOPs; a matrix without a scheme has the activations' precision.
    """
    bias_bytes = n * precision.activation_bytes if bias else 0.0
    return Operator(
        name=name,
        kind="gemm",
        layers=layers,
        flops=2 * rows * n * k,
        weight_bytes=where_any(rows, precision.matrix_bytes(scheme, n, k) + bias_bytes),
        activation_bytes=rows * (n + k) * precision.activation_bytes,
        kv_bytes=0.0,
        gemm=(rows, n, k),
        compute=precision.product(scheme),
    )


def layer_gemms(
    module: str,
    spec: DecoderSpec,
    rows: F,
    n: int,
    k: int,
    precision: Precision,
    *,
    bias: bool = False,
) -> list[Operator]:
    """Return a product of every layer: one operator for each way in which its matrix is stored."""
    return [
        gemm(module, layers, rows, n, k, precision, bias=bias, scheme=scheme)
        for scheme, layers in precision.weights.of(module, spec.num_layers)
    ]


def norm(name: str, spec: DecoderSpec, rows: F, precision: Precision, layers: int) -> Operator:
    """Return a norm over the hidden size, which reads and writes every row."""
    elements = rows * spec.hidden_size
    return Operator(
        name=name,
        kind="norm",
        layers=layers,
        flops=NORM_FLOPS[spec.norm] * elements,
        weight_bytes=where_any(rows, spec.norm_parameters() * precision.activation_bytes),
        activation_bytes=2 * elements * precision.activation_bytes,
        kv_bytes=0.0,
        compute=precision.compute,
    )


def elementwise(
    name: str,
    spec: DecoderSpec,
    elements: F,
    flops: float,
    moved: float,
    precision: Precision,
    *,
    kind: str = "elementwise",
) -> Operator:
    """Return an operator of every layer: FLOPs, and numbers read or written, per element."""
    return Operator(
        name=name,
        kind=kind,
        layers=spec.num_layers,
        flops=flops * elements,
        weight_bytes=0.0,
        activation_bytes=moved * elements * precision.activation_bytes,
        kv_bytes=0.0,
        compute=precision.compute,
    )
