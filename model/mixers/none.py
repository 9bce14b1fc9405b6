"""The mixer of a layer that has none."""

from model.attended import Attended
from model.caches import Cache
from model.dataclass import dataclass
from model.matrices import Matrix
from model.mixers.mixer import Kernel, Rotary
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True)
class NoMixer:
    """Nothing, as in layers of pruned models and in those that are an MLP only."""

    matrices: tuple[Matrix, ...] = ()
    vector_numbers: int = 0
    caches: tuple[Cache, ...] = ()
    rotary: Rotary | None = None
    told: str = ""

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return Kernel("none", 0, 0, 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``."""
        return []

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``."""
        return []
