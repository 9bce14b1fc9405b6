"""One rank of a model on a group of GPUs at a precision."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hardware.gpu import Gpu
from model.operators import F, Operator
from model.ops import rank_vocabulary, sequence_operators, token_operators
from model.precision import Precision
from model.shape import DecoderSpec, Layers
from model.sharding import shares
from model.share import Share

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What one of ``tp`` GPUs that share a model has to compute and to send.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """

    spec: DecoderSpec
    gpu: Gpu
    tp: int = 1
    precision: Precision
    layers: tuple[tuple[Layers, Share], ...] = field(init=False)
    """Every kind of layers, and what this rank holds of them."""

    def __post_init__(self) -> None:
        """Share the layers out."""
        held = shares(self.spec, self.precision, self.tp)
        object.__setattr__(self, "layers", tuple(held))

    def token_operators(self, tokens: F) -> list[Operator]:
        """Return all that depends on a step's tokens only; see ``model.ops``."""
        return token_operators(self.spec, tokens, precision=self.precision, tp=self.tp)

    def sequence_operators(self, sequences: F) -> list[Operator]:
        """Return what runs on the sampled rows only; see ``model.ops``."""
        return sequence_operators(self.spec, sequences, precision=self.precision, tp=self.tp)

    @property
    def attending(self) -> tuple[tuple[Layers, Share], ...]:
        """Those of ``layers`` that keep something of earlier tokens."""
        return tuple((kind, share) for kind, share in self.layers if kind.mixer.caches)

    @property
    def all_reduces(self) -> int:
        """All-reduces of a step: one behind every mixer, every MLP and the embedding.

        Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3 and figure 4; the embedding is
        split over the vocabulary.
        """
        return sum(kind.count * kind.parts for kind in self.spec.layers) + 1

    def reduced_bytes(self, tokens: Floats) -> Floats:
        """Return the bytes of one of their buffers, for a step's tokens."""
        return tokens * (self.spec.hidden_size * self.precision.activation_bytes)

    def logits_bytes(self, sequences: Floats) -> Floats:
        """Return the bytes of the gathered logits; each rank computes a part of the vocabulary."""
        logits = self.tp * rank_vocabulary(self.spec, self.tp)
        return sequences * (logits * self.precision.activation_bytes)
