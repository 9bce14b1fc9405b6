"""What some layers have beside mixer and MLP: small matrices that every token goes through."""

from model.dataclass import dataclass
from model.matrices import Matrix
from model.mlps.mlp import Mlp
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class Extended:
    """An MLP, and what else a layer has: streams that are mixed, inputs of its own."""

    mlp: Mlp
    more: tuple[Matrix, ...] = ()
    again: tuple[Matrix, ...] = ()
    """Of ``more``, those that a token goes through a second time."""
    more_vectors: int = 0
    """Parameters beside ``more``."""
    moved_numbers: int = 0
    """Numbers of a token that are read or written besides; one FLOP each."""

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mlp``."""
        return (*self.mlp.matrices, *self.more)

    @property
    def vector_numbers(self) -> int:
        """See ``Mlp``."""
        return self.mlp.vector_numbers + self.more_vectors

    @property
    def num_experts(self) -> int:
        """See ``Mlp``."""
        return self.mlp.num_experts

    @property
    def told(self) -> str:
        """See ``Mlp``."""
        return self.mlp.told

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mlp``."""
        more = [one for matrix in (*self.more, *self.again) for one in share.products(matrix, rows)]
        if self.moved_numbers:
            more.append(share.elementwise("streams", rows * self.moved_numbers, 1, 1))
        return [*self.mlp.operators(rows, share), *more]

    def inner_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return self.mlp.inner_numbers(tokens, tp)

    def routed_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return self.mlp.routed_numbers(tokens, tp)

    def workspace_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return self.mlp.workspace_numbers(tokens, tp)
