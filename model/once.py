"""What some models have once, beside embedding, layers and head."""

from collections.abc import Sequence

from model.dataclass import dataclass
from model.matrices import Matrix
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Inputs of layers that do not come from the layer before, and streams that are joined."""

    table_rows: int = 0
    """Of a second embedding, which gives every layer inputs of its own (Gemma 3n, Gemma 4)."""
    table_numbers: int = 0
    """Of one of its rows, for all layers together."""
    matrices: tuple[Matrix, ...] = ()
    """That every token goes through."""
    vectors: int = 0
    """Parameters beside them."""

    @property
    def parameters(self) -> int:
        """All of them."""
        matrices = sum(matrix.parameters for matrix in self.matrices)
        return self.table_rows * self.table_numbers + matrices + self.vectors

    def on_rank(self, tp: int) -> int:
        """Parameters that one of ``tp`` ranks keeps: the table is split, the rest repeated."""
        table = self.table_rows * self.table_numbers
        return -(-table // tp) + self.parameters - table

    def operators(self, rows: F, share: Share) -> Sequence[Operator]:
        """Return what they compute and move for the rows of a step."""
        products = [one for matrix in self.matrices for one in share.products(matrix, rows)]
        if not self.table_numbers:
            return products
        looked_up = share.elementwise("layer_inputs", rows * self.table_numbers, 1, 2)
        return [looked_up, *products]


NOTHING_ONCE = Once()
