"""A norm over the width of the residual stream."""

from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm or LayerNorm."""

    kind: str
    """rmsnorm or layernorm."""
    eps: float
    size: int
    vectors: int | None = None
    """Vectors of parameters: a weight, and a bias of LayerNorm, unless told (Cohere's LayerNorm has
    no bias, OLMo's none of both)."""

    @property
    def parameters(self) -> int:
        """Weights, and biases."""
        usual = 2 if self.kind == "layernorm" else 1
        return self.size * (usual if self.vectors is None else self.vectors)
