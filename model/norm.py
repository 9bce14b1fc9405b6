"""A norm over the width of the residual stream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm or LayerNorm."""

    kind: str
    """rmsnorm (a weight) or layernorm (a weight and a bias)."""
    eps: float
    size: int

    @property
    def parameters(self) -> int:
        """Weights, and biases."""
        return self.size * (2 if self.kind == "layernorm" else 1)
