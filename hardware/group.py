"""One rank of a model on a group of GPUs at a precision.

Several such groups may be the data-parallel ranks of one engine (``hardware.steps.ranks``): they
share experts, which are dealt whole to the GPUs of all, and nothing else.
"""

from dataclasses import field

import numpy as np
import numpy.typing as npt

from hardware.gpu import Gpu
from model.dataclass import dataclass
from model.mixers.attention import Attention
from model.mixers.beside import side_by_side
from model.mixers.mixer import Mixer
from model.mlps.experts import EXPERT_OPERATORS, Experts
from model.mlps.extended import Extended
from model.mlps.mlp import Mlp
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
    dp: int = 1
    """Groups like this one whose tokens the experts here compute."""
    embeds: bool = True
    """Whether the embedding is here: in the first of several pipeline stages."""
    predicts: bool = True
    """Whether the LM head is here: in the last of them."""
    precision: Precision
    layers: tuple[tuple[Layers, Share], ...] = field(init=False)
    """Every kind of layers, and what this rank holds of them."""

    def __post_init__(self) -> None:
        """Share the layers out."""
        held = shares(self.spec, self.precision, self.tp)
        object.__setattr__(self, "layers", tuple(held))

    def token_operators(self, tokens: F) -> list[Operator]:
        """Return all that depends on a step's tokens only; see ``model.ops``.

        Of several groups each has as many tokens.
        """
        if self.dp == 1:
            return token_operators(
                self.spec, tokens, precision=self.precision, tp=self.tp, embeds=self.embeds
            )
        return self.own_operators(tokens) + self.expert_operators(self.dp * tokens)

    def own_operators(self, tokens: F) -> list[Operator]:
        """Return those of them that work on the tokens of this group alone."""
        operators = token_operators(self.spec, tokens, precision=self.precision, tp=self.tp)
        return [one for one in operators if one.name not in EXPERT_OPERATORS]

    def expert_operators(self, tokens: F) -> list[Operator]:
        """Return those that work on the tokens of all groups, by these."""
        operators = token_operators(self.spec, tokens, precision=self.precision, tp=self.tp)
        return [one for one in operators if one.name in EXPERT_OPERATORS]

    def sequence_operators(self, sequences: F) -> list[Operator]:
        """Return what runs on the sampled rows only; see ``model.ops``."""
        if not self.predicts:
            return []
        return sequence_operators(self.spec, sequences, precision=self.precision, tp=self.tp)

    @property
    def attending(self) -> tuple[tuple[Mixer, Share], ...]:
        """Mixers that keep something of earlier tokens, each with all layers that have it."""
        places: dict[Mixer, tuple[int, ...]] = {}
        for kind, share in self.layers:
            for mixer in side_by_side(kind.mixer):
                if mixer.caches:
                    places[mixer] = (*places.get(mixer, ()), *share.places)
        return tuple(
            (mixer, Share(tuple(sorted(of)), self.precision, self.tp))
            for mixer, of in places.items()
        )

    @property
    def all_reduces(self) -> int:
        """All-reduces of a step: one behind every mixer, every MLP and the embedding.

        Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3 and figure 4; the embedding is
        split over the vocabulary. Of several groups experts' outputs are exchanged instead.
        """
        reduced = sum(kind.count * kind.parts for kind in self.spec.layers) + self.embeds
        return reduced - (self.expert_layers if self.dp > 1 else 0)

    @property
    def expert_layers(self) -> int:
        """Layers with routed experts."""
        return self.spec.expert_layers

    @property
    def norm_reduces(self) -> int:
        """All-reduces of the squares that norms over all heads need, one a layer (MiniMax-M2).

        vllm/model_executor/layers/mamba/linear_attn.py, ``MiniMaxText01RMSNormTP``.
        """
        mixers = ((kind.mixer, kind.count) for kind in self.spec.layers)
        return sum(
            count
            for mixer, count in mixers
            if isinstance(mixer, Attention) and mixer.norms_all_heads
        )

    @property
    def cut_reduces(self) -> int:
        """All-reduces of experts' outputs that kernels fill up with zeros: what is added up is cut
        to its width before the norm, so that no kernel computes both.

        vllm/model_executor/layers/fused_moe/layer.py, ``forward_native``: gpt-oss in MXFP4.
        """
        if self.dp > 1:
            return 0
        return sum(
            layers
            for kind, share in self.layers
            for matrix in kind.matrices
            if matrix.copies > 1 and len(matrix.outputs) == 1
            for scheme, layers in share.schemes(matrix)
            if scheme is not None and matrix.outputs[0].whole % scheme.tiles[1]
        )

    @property
    def expert_compute(self) -> str:
        """Arithmetic of their products; empty without any."""
        computes = [one.compute for one in self.expert_operators(1.0) if one.gemm is not None]
        return computes[0] if computes else ""

    @property
    def choices(self) -> int:
        """Experts that a token is sent to, at most, in one layer."""
        return max(_per_token(kind.mlp) for kind in self.spec.layers)

    def reduced_bytes(self, tokens: Floats) -> Floats:
        """Return the bytes of one of their buffers, for a step's tokens."""
        return tokens * (self.spec.hidden_size * self.precision.activation_bytes)

    def logits_bytes(self, sequences: Floats) -> Floats:
        """Return the bytes of the gathered logits; each rank computes a part of the vocabulary."""
        logits = self.tp * rank_vocabulary(self.spec, self.tp)
        return sequences * (logits * self.precision.activation_bytes)


def _per_token(mlp: Mlp) -> int:
    if isinstance(mlp, Extended):
        return _per_token(mlp.mlp)
    return mlp.per_token if isinstance(mlp, Experts) else 0
