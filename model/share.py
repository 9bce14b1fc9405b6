"""What one rank holds and runs of some equal layers: the builders of their operators."""

from model.dataclass import dataclass
from model.matrices import Matrix
from model.norm import Norm
from model.operators import NORM_FLOPS, F, Operator, where_any
from model.precision import Precision
from model.quantization.scheme import Scheme


@dataclass(frozen=True, slots=True)
class Share:
    """One rank of ``tp`` that share equal layers, and how it stores their numbers."""

    places: tuple[int, ...]
    """Of the layers in the model, from 0."""
    precision: Precision
    tp: int = 1

    @property
    def count(self) -> int:
        """How many layers."""
        return len(self.places)

    def schemes(self, matrix: Matrix) -> tuple[tuple[Scheme | None, int], ...]:
        """Return the ways in which a matrix is stored, with the number of layers of each."""
        if not matrix.quantized:
            return ((None, self.count),)
        return self.precision.weights.of(matrix.name, self.places)

    def products(self, matrix: Matrix, rows: F) -> list[Operator]:
        """Return a matrix's product of every layer: one operator for each way of storing it."""
        n = sum(part.on_rank(self.tp) for part in matrix.outputs)
        k = matrix.inputs.on_rank(self.tp)
        return [
            gemm(matrix.name, count, rows, n, k, self.precision, bias=matrix.bias, scheme=scheme)
            for scheme, count in self.schemes(matrix)
        ]

    def norm(self, name: str, norm: Norm, rows: F) -> Operator:
        """Return a norm over the hidden size, which reads and writes every row."""
        elements, wide = rows * norm.size, self.precision.activation_bytes
        return Operator(
            name=name,
            kind="norm",
            layers=self.count,
            flops=NORM_FLOPS[norm.kind] * elements,
            weight_bytes=where_any(rows, norm.parameters * wide),
            activation_bytes=2 * elements * wide,
            kv_bytes=0.0,
            compute=self.precision.compute,
        )

    def elementwise(
        self, name: str, elements: F, flops: float, moved: float, *, kind: str = "elementwise"
    ) -> Operator:
        """Return an operator of every layer: FLOPs, and numbers read or written, per element."""
        return Operator(
            name=name,
            kind=kind,
            layers=self.count,
            flops=flops * elements,
            weight_bytes=0.0,
            activation_bytes=moved * elements * self.precision.activation_bytes,
            kv_bytes=0.0,
            compute=self.precision.compute,
        )

    def attention(
        self,
        name: str,
        flops: F,
        activation_bytes: F,
        kv_bytes: F,
        *,
        compute: str | None = None,
    ) -> Operator:
        """Return an operator of every layer that works on the cache instead of on weights.

        Its arithmetic is the activations' unless ``compute`` says another.
        """
        return Operator(
            name=name,
            kind="attention",
            layers=self.count,
            flops=flops,
            weight_bytes=0.0,
            activation_bytes=activation_bytes,
            kv_bytes=kv_bytes,
            compute=compute or self.precision.compute,
        )


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
        stored=scheme.kernel if scheme is not None else None,
        weight_only=scheme is not None and scheme.compute is None,
    )
