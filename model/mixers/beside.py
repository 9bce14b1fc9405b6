"""Two mixers side by side on the same rows, whose outputs are added up (Falcon-H1)."""

from model.attended import Attended
from model.caches import Cache
from model.dataclass import dataclass
from model.matrices import Matrix
from model.mixers.mixer import Kernel, Mixer, Rotary
from model.operators import F, Operator
from model.share import Share


def side_by_side(mixer: Mixer) -> tuple[Mixer, ...]:
    """Return the mixers that a layer runs one after the other on the same rows."""
    return (mixer.first, mixer.second) if isinstance(mixer, Beside) else (mixer,)


@dataclass(frozen=True)
class Beside:
    """Attention, and a mixer with a state."""

    first: Mixer
    second: Mixer

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those of both."""
        return (*self.first.matrices, *self.second.matrices)

    @property
    def vector_numbers(self) -> int:
        """See ``Mixer``."""
        return self.first.vector_numbers + self.second.vector_numbers

    @property
    def caches(self) -> tuple[Cache, ...]:
        """Those of both."""
        return (*self.first.caches, *self.second.caches)

    @property
    def rotary(self) -> Rotary | None:
        """That of the first."""
        return self.first.rotary

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.first.told}, {self.second.told}"

    def kernel(self, tp: int) -> Kernel:
        """Not one kernel: prices ask for those of both (``side_by_side``)."""
        return Kernel(f"{self.first.kernel(tp).kind} and {self.second.kernel(tp).kind}", 0, 0, 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``."""
        return [*self.first.operators(rows, share), *self.second.operators(rows, share)]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``: each has its own caches' counts."""
        split = len(self.first.caches)
        halves = (
            (self.first, attended.pairs[:split], attended.entries[:split]),
            (self.second, attended.pairs[split:], attended.entries[split:]),
        )
        return [
            operator
            for mixer, pairs, entries in halves
            for operator in mixer.attention(
                Attended(attended.sequences, attended.rows, pairs, entries),
                share,
                fused=fused,
                decode=decode,
            )
        ]
