"""What an engine keeps to make and verify drafts."""

from dataclasses import dataclass, replace

from model.drafter import Drafter
from model.precision import Precision
from model.shape import DecoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """What an engine keeps to make and verify drafts."""

    tokens: int
    """Of a sequence in each step."""
    drafter: Drafter | None
    """None: drafts come from the text itself (n-gram)."""
    precision: Precision
    """Of the drafter's numbers."""

    def weight_bytes(self, tp: int) -> int:
        """Return the bytes of the drafter's own weights on one of ``tp`` ranks."""
        return self.drafter.weight_bytes(self.precision, tp) if self.drafter else 0

    def beside(self, spec: DecoderSpec) -> DecoderSpec:
        """Return a model with the drafter's layers, as the KV cache has them."""
        if self.drafter is None:
            return spec
        return replace(spec, layers=spec.layers + self.drafter.spec.layers)
