"""What an engine keeps to make and verify drafts."""

from dataclasses import replace

from model.dataclass import dataclass
from model.dealing import experts_among
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
    of_target: bool = True
    """Whether they are made of the target's hidden states (EAGLE, MTP): vLLM's second model runner
    has no others."""

    def weight_bytes(self, tp: int, dp: int = 1, *, whole: bool = False) -> int:
        """Return the bytes of the drafter's own weights on one of ``tp`` ranks.

        Its experts are shared by ``dp`` such groups, ``whole`` or cut (``experts_among``).
        """
        drafter = self.drafter
        if drafter is None:
            return 0
        if dp > 1:
            dealt = experts_among(drafter.spec, tp, dp, whole=whole)
            drafter = replace(drafter, spec=dealt)
        return drafter.weight_bytes(self.precision, tp)

    def beside(self, spec: DecoderSpec) -> DecoderSpec:
        """Return a model with the drafter's layers, as the KV cache has them."""
        if self.drafter is None:
            return spec
        return replace(spec, layers=spec.layers + self.drafter.spec.layers)
