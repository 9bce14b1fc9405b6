"""Which modules of a model are stored how: the schemes of its layers, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.quantization.scheme import Scheme

Part = tuple[Scheme | None, int | None]
"""A scheme (None: 16 bits, or what ``dtype`` says) and the layers that have it (None: all)."""

DENSE = ("qkv_proj", "o_proj", "mlp_up", "mlp_down")
EXPERTS = ("experts",)
"""Modules that quantization touches, under the names of ``model.ops``. A shared expert counts as
the MLP. Embedding, norms, routers and biases keep the activations' precision in every format that
is read; the LM head does unless the checkpoint names it."""
HEAD = "lm_head"


@dataclass(frozen=True, slots=True)
class Weights:
    """Storage of every module of a model."""

    parts: tuple[tuple[str, tuple[Part, ...]], ...] = ()
    """By module: its schemes, and how many layers have each. A module that is not there has the
    activations' precision in every layer."""
    method: str | None = None
    """vLLM's name of the quantization; None for none."""
    source: str | None = None
    """Who says so."""

    def of(self, module: str, layers: int) -> tuple[tuple[Scheme | None, int], ...]:
        """Return the schemes of a module with the number of layers that have each."""
        for name, parts in self.parts:
            if name == module:
                return tuple((scheme, layers if n is None else n) for scheme, n in parts)
        return ((None, layers),)

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
            for scheme, layers in parts:
                if scheme is not None:
                    counts[scheme] = counts.get(scheme, 0.0) + (layers or 1)
        return max(counts, key=lambda scheme: counts[scheme]) if counts else None

    def __str__(self) -> str:
        """``fp8, 128 x 128 blocks, from quantization_config``; an empty text for 16 bits."""
        schemes = self.schemes()
        if not schemes:
            return f"{self.method} of no module, from {self.source}" if self.method else ""
        mixed = any(scheme is None for _, parts in self.parts for scheme, _ in parts)
        told = " and ".join(map(str, schemes)) + (" in part of the layers" if mixed else "")
        return f"{told}, from {self.source}" if self.source else told


PLAIN = Weights()
"""Nothing is quantized."""


def uniform(
    scheme: Scheme,
    method: str,
    source: str | None,
    modules: tuple[str, ...] = DENSE + EXPERTS,
) -> Weights:
    """Return one scheme for all matrices of the layers, or for those of some modules."""
    return Weights(tuple((name, ((scheme, None),)) for name in modules), method, source)
