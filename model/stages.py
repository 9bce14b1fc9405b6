"""Pipeline stages: which layers of a decoder each of several groups of GPUs holds.

As vLLM deals them (vllm/distributed/utils.py, ``get_pp_indices``): equally many to each, and one
more to as many stages as layers are left over, from the last but one towards the first. The token
embedding is in the first stage (a tied one in the last as well), final norm and LM head are in the
last.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from model.dataclass import dataclass
from model.shape import DecoderSpec


@dataclass(frozen=True, slots=True)
class Stage:
    """One of them."""

    spec: DecoderSpec
    """The decoder with the layers of this stage alone, where they are in the whole."""
    embeds: bool = True
    """Whether token embeddings are here: it is the first."""
    predicts: bool = True
    """Whether final norm and LM head are here: it is the last."""


def stage_layers(layers: int, stages: int, given: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return how many layers each stage has.

    Args:
        layers: of the model.
        stages: how many there are.
        given: what somebody wants instead, one count per stage (``VLLM_PP_LAYER_PARTITION``).

    Raises:
        ValueError: more stages than layers, or counts that do not make the model.
    """
    if given is not None:
        if len(given) != stages:
            raise ValueError(f"{len(given)} counts, expected one of each of {stages} stages")
        if sum(given) != layers:
            raise ValueError(f"{sum(given)} layers together, expected {layers}, as the model has")
        return tuple(given)
    if stages > layers:
        raise ValueError(f"{stages} stages of {layers} layers, expected at most {layers}")
    counts = [layers // stages] * stages
    for place in range(2, layers % stages + 2):
        counts[-place] += 1
    return tuple(counts)


def stages_of(
    spec: DecoderSpec, stages: int, given: Sequence[int] | None = None
) -> tuple[Stage, ...]:
    """Return what each stage holds of a decoder; one stage is the decoder itself.

    Raises:
        ValueError: see ``stage_layers``.
    """
    if stages == 1 and given is None:
        return (Stage(spec),)
    ends = accumulate(stage_layers(spec.num_layers, stages, given), initial=0)
    return tuple(
        Stage(_between(spec, start, end), start == 0, end == spec.num_layers)
        for start, end in pairwise(ends)
    )


def handed_over(spec: DecoderSpec) -> int:
    """Return how many tensors of the hidden size go from one stage to the next.

    Where a norm adds the residual as it goes (vLLM's fused RMSNorm) hidden states and residual are
    apart; else they are one (``make_empty_intermediate_tensors_factory`` of a model's file).
    """
    return 2 if spec.head.norm.kind == "rmsnorm" else 1


def _between(spec: DecoderSpec, start: int, end: int) -> DecoderSpec:
    """The same decoder with some of its layers only."""
    kept = (
        replace(kind, places=tuple(place for place in kind.places if start <= place < end))
        for kind in spec.layers
    )
    return replace(spec, layers=tuple(kind for kind in kept if kind.places))
