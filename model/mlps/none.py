"""The MLP of a layer that has none."""

from model.dataclass import dataclass
from model.matrices import Matrix
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True)
class NoMlp:
    """Nothing, as in layers that are a mixer only."""

    matrices: tuple[Matrix, ...] = ()
    vector_numbers: int = 0
    num_experts: int = 0
    told: str = ""

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mlp``."""
        return []

    def inner_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return 0

    def routed_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return 0

    def workspace_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return 0
