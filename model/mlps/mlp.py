"""What an MLP has to say of itself: matrices, work on a rank, activations."""

from typing import Protocol

from model.matrices import Matrix
from model.operators import ACTIVATION_FLOPS, F, Operator
from model.share import Share


class Mlp(Protocol):
    """One kind of MLP. Frozen and hashable: equal layers are grouped by it."""

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every matrix."""
        ...

    @property
    def vector_numbers(self) -> int:
        """Parameters beside matrices and their biases; every rank has all of them."""
        ...

    @property
    def num_experts(self) -> int:
        """Routed experts; 0 for none."""
        ...

    @property
    def told(self) -> str:
        """What a message about dividing it among ranks says: ``MLP width 14336``."""
        ...

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """Return what it computes and moves for the rows of a step."""
        ...

    def inner_numbers(self, tokens: int, tp: int) -> int:
        """Return the numbers between its matrices, on one of ``tp`` ranks, for every token."""
        ...

    def routed_numbers(self, tokens: int, tp: int) -> int:
        """Return what routed experts hold besides for so many tokens at once; 0 without."""
        ...

    def workspace_numbers(self, tokens: int, tp: int) -> int:
        """Return what fused experts keep between steps of so many tokens; 0 without."""
        ...


def nonlinearity(name: str, activation: str, gated: bool, elements: F, share: Share) -> Operator:
    """Return the nonlinearity, times the other half when gated."""
    flops = ACTIVATION_FLOPS[activation] + gated
    return share.elementwise(name, elements, flops, 3 if gated else 2)
