"""What a family of plain attention has instead of Llama's parts, as one row of data."""

from collections.abc import Callable, Mapping
from dataclasses import field

from model.dataclass import dataclass
from model.families.keys import Config
from model.families.llama import NAMES
from model.quantization.modules import Names

Prepare = Callable[[Config], dict[str, object]]
"""Turns a file of other keys into one with Llama's, before it is read."""


def as_it_is(config: Config) -> dict[str, object]:
    """Return a file whose keys need no other form."""
    return dict(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One family. What a row does not say is as in Llama."""

    class_name: str
    """In ``architectures``; the first where there are several."""
    also: tuple[str, ...] = ()
    """Other classes of the same type."""
    names: Names = field(default_factory=lambda: NAMES)
    """What its files call the matrices of a layer."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """The file's name of a key, by the name that it has here (``PlainKeys``)."""
    usual: Mapping[str, object] = field(default_factory=dict)
    """What a file means that leaves a key out, by the name that it has here."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """What holds whatever a file says: the family's code does not read the key."""
    not_read: tuple[str, ...] = ()
    """Keys about positions that mean nothing to the family."""
    prepare: Prepare = as_it_is
    """Before anything else."""
    norm: str = "rmsnorm"
    norm_vectors: int | None = None
    """See ``Norm.vectors``."""
    norms: int | None = None
    """See ``Layers.norms``; None: one for each part that is there."""
    gated: bool = True
    """Of the dense MLP."""
    qk_norm: str | None = None
    """Which norms of queries and keys there are, where the file does not turn them off: one weight
    for all heads (``head``), one for every number of them (``width``), or of a LayerNorm with
    biases over a head (``biased head``)."""
    experts: bool = False
    """Whether a file may have routed experts: others ignore ``num_experts``, which some write."""
    gate: bool = False
    """Attention's outputs are gated, number by number."""
    embedding_norm: bool = False
    rotary: bool = True
    position_rows: int | None = None
    """Rows of a table of learned positions beside those of ``max_position_embeddings``; None:
    positions are not learned."""
