"""Decoders whose layers are all alike, for what is written for those only: formulas, torch."""

from model.mixers.attention import Attention
from model.mlps.dense import Dense
from model.shape import DecoderSpec


def attention_of(spec: DecoderSpec) -> Attention:
    """Return the attention that every layer has.

    Raises:
        ValueError: layers differ in it, or have another mixer.
    """
    mixers = {layers.mixer for layers in spec.layers}
    mixer = mixers.pop()
    if mixers or not isinstance(mixer, Attention):
        raise ValueError(f"{spec.name}: expected the same attention in every layer")
    return mixer


def dense_of(spec: DecoderSpec) -> Dense:
    """Return the dense MLP that every layer has.

    Raises:
        ValueError: layers differ in it, or have experts.
    """
    mlps = {layers.mlp for layers in spec.layers}
    mlp = mlps.pop()
    if mlps or not isinstance(mlp, Dense):
        raise ValueError(f"{spec.name}: expected the same dense MLP in every layer")
    return mlp
