"""Which modules of a model are stored how: the schemes of its layers, and who says so."""

from collections.abc import Mapping, Sequence

from model.dataclass import dataclass
from model.quantization.scheme import Scheme

Part = tuple[Scheme | None, tuple[int, ...] | None]
"""A scheme (None: 16 bits, or what ``dtype`` says) and the places of the layers that have it (None:
all)."""

LAYERS = ("layers",)
"""Every matrix of the layers that may be quantized and is not named itself. Embedding, norms,
routers and biases keep the activations' precision in every format that is read; the LM head does
unless the checkpoint names it."""
EXPERTS = ("experts",)
"""The routed experts; a shared one counts as an MLP."""
HEAD = "lm_head"


@dataclass(frozen=True, slots=True)
class Weights:
    """Storage of every module of a model."""

    parts: tuple[tuple[str, tuple[Part, ...]], ...] = ()
    """By module: its schemes, and which layers have each. A module that is not there has the
    activations' precision in every layer."""
    method: str | None = None
    """vLLM's name of the quantization; None for none."""
    source: str | None = None
    """Who says so."""

    def of(self, module: str, places: Sequence[int]) -> tuple[tuple[Scheme | None, int], ...]:
        """Return the schemes of a module in some layers, with the number of those that have each.

        Args:
            module: a name of a matrix.
            places: of the layers in the model, from 0.
        """
        for name, parts in self.parts:
            if name == module or (name == LAYERS[0] and module != HEAD):
                counts = ((scheme, _count(places, at)) for scheme, at in parts)
                return tuple((scheme, count) for scheme, count in counts if count)
        return ((None, len(places)),)

    def schemes(self) -> tuple[Scheme, ...]:
        """Return every scheme that some module has, each once."""
        found = [scheme for _, parts in self.parts for scheme, _ in parts if scheme is not None]
        return tuple(dict.fromkeys(found))

    def map(self, change: Mapping[Scheme, Scheme]) -> "Weights":
        """Return the same with other schemes in the place of some."""
        parts = tuple(
            (name, tuple((change.get(s, s) if s is not None else None, n) for s, n in each))
            for name, each in self.parts
        )
        return Weights(parts, self.method, self.source)

    @property
    def main(self) -> Scheme | None:
        """The scheme of most modules, counted over layers; None when none is quantized."""
        counts: dict[Scheme, float] = {}
        for _, parts in self.parts:
            for scheme, places in parts:
                if scheme is not None:
                    layers = 1 if places is None else len(places)
                    counts[scheme] = counts.get(scheme, 0.0) + layers
        return max(counts, key=lambda scheme: counts[scheme]) if counts else None

    def __str__(self) -> str:
        """``fp8, 128 x 128 blocks, from quantization_config``; an empty text for 16 bits."""
        schemes = self.schemes()
        if not schemes:
            return f"{self.method} of no module, from {self.source}" if self.method else ""
        mixed = any(scheme is None for _, parts in self.parts for scheme, _ in parts)
        told = " and ".join(map(str, schemes)) + (" in part of the layers" if mixed else "")
        return f"{told}, from {self.source}" if self.source else told


def _count(places: Sequence[int], among: tuple[int, ...] | None) -> int:
    """How many of some places are among others."""
    return len(places) if among is None else len(set(places).intersection(among))


PLAIN = Weights()
"""Nothing is quantized."""


def uniform(
    scheme: Scheme,
    method: str,
    source: str | None,
    modules: tuple[str, ...] = LAYERS,
) -> Weights:
    """Return one scheme for all matrices of the layers, or for those of some modules."""
    return Weights(tuple((name, ((scheme, None),)) for name in modules), method, source)
