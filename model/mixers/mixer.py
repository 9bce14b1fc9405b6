"""What a mixer has to say of itself: matrices, caches, work on a rank."""

from typing import Protocol

from model.attended import Attended
from model.caches import Cache
from model.dataclass import dataclass
from model.matrices import Matrix
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions, and the table of cosines and sines that an engine keeps for them."""

    theta: float
    """Base of the frequencies."""
    table_rows: int = 0
    """Positions of the table; layers with equal rotations share one."""
    table_numbers: int = 0
    """Numbers per position."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Which kernel a rank runs a mixer with, and its shape: what measured tables are asked with."""

    kind: str
    """grouped: attention over keys and values of heads."""
    heads: int
    """Query heads of the rank."""
    kv_heads: int
    """Their key and value heads."""
    position_numbers: int
    """Numbers of the cache that one position is read with, in one layer."""

    @property
    def group(self) -> float:
        """Query heads per KV head."""
        return self.heads / self.kv_heads


class Mixer(Protocol):
    """One kind of mixer of tokens. Frozen and hashable: equal layers are grouped by it."""

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every matrix, in the order of a step."""
        ...

    @property
    def vector_numbers(self) -> int:
        """Parameters beside matrices and their biases; every rank has all of them."""
        ...

    @property
    def caches(self) -> tuple[Cache, ...]:
        """What it keeps of the tokens behind it; several where one attention reads several."""
        ...

    @property
    def rotary(self) -> Rotary | None:
        """Its rotary positions, if any."""
        ...

    @property
    def told(self) -> str:
        """What a message about dividing it among ranks says: ``32 attention heads``."""
        ...

    def kernel(self, tp: int) -> Kernel:
        """Return the kernel of one of ``tp`` ranks."""
        ...

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """Return all that depends on the step's tokens only: projections, rotations, norms."""
        ...

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """Return the work on the caches, FLOPs and bytes linear in all counts of ``attended``.

        Args:
            attended: counts, by cache of ``caches``.
            share: the rank and the layers.
            fused: one pass over the cache, or standard operators.
            decode: of sequences that decode, or of a prompt's chunk: some mixers compute the two
                in different ways.
        """
        ...
