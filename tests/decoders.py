"""Decoders with all layers alike, changed field by field: for tests that need an odd shape."""

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

from model.alike import attention_of
from model.mixers.attention import Attention
from model.mlps.dense import Dense
from model.norm import Norm
from model.shape import DecoderSpec, Embedding, Head, Layers

LLAMA_LIKE = DecoderSpec(
    name="tiny-llama",
    architecture="llama",
    embedding=Embedding(vocab_size=61, hidden_size=32),
    layers=(
        Layers(
            (0, 1),
            Attention(hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8),
            Dense(hidden_size=32, width=48),
            Norm("rmsnorm", 1e-6, 32),
        ),
    ),
    head=Head(norm=Norm("rmsnorm", 1e-6, 32), tied=False),
    max_position_embeddings=64,
    max_model_len=64,
)


def changed(spec: DecoderSpec, num_layers: int | None = None, **changes: Any) -> DecoderSpec:
    """The same decoder with other fields, wherever they stand.

    ``hidden_size`` changes in all parts; ``norm`` and ``eps`` in all norms.
    """
    (kind,) = spec.layers
    norms = {"kind": "norm", "eps": "eps", "size": "hidden_size"}
    norm = {field: changes[name] for field, name in norms.items() if name in changes}
    parts = {
        "mixer": _taken(kind.mixer, changes),
        "mlp": _taken(kind.mlp, changes),
        "norm": replace(kind.norm, **norm),
    }
    head = replace(_taken(spec.head, changes), norm=replace(spec.head.norm, **norm))
    embedding = _taken(spec.embedding, changes)
    homes = (kind.mixer, kind.mlp, spec.head, spec.embedding, spec)
    known = {field.name for home in homes for field in fields(home)} | {"norm", "eps"}
    assert changes.keys() <= known, changes.keys() - known
    spec = replace(
        _taken(spec, changes), layers=(replace(kind, **parts),), head=head, embedding=embedding
    )
    return spec if num_layers is None else spec.first_layers(num_layers)


def _taken(part: Any, changes: dict[str, Any]) -> Any:
    """A part with the changes that are its own."""
    own = {field.name for field in fields(part)}
    return replace(part, **{name: value for name, value in changes.items() if name in own})


def flat(spec: DecoderSpec) -> SimpleNamespace:
    """Every field of a decoder in one place."""
    (kind,) = spec.layers
    attention, norm = attention_of(spec), kind.norm
    parts = (spec, spec.embedding, attention, kind.mlp)
    found = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
    theta = attention.rotary.theta if attention.rotary else 0.0
    found |= {"theta": theta, "norm": norm.kind, "eps": norm.eps, "tied": spec.head.tied}
    return SimpleNamespace(**found, num_layers=spec.num_layers)
