"""What layers keep of the tokens behind them: entries per token, and states per sequence."""

from typing import NamedTuple

from model.dataclass import dataclass
from model.matrices import Width

NOTHING = Width(1, 0, copied=True)
"""Of a cache without entries per token."""

HEADS, LATENT, INDEX, COMPRESSED, STATE = "heads", "latent", "index", "compressed", "state"
"""Kinds of caches: keys and values of KV heads; one vector for all heads (MLA); keys that a sparse
attention chooses its positions by; one entry for several tokens; what a sequence keeps whatever its
length."""


@dataclass(frozen=True, slots=True)
class State:
    """Numbers that a sequence keeps in one layer, whatever its length."""

    name: str
    """conv or recurrent."""
    widths: tuple[Width, ...]
    """How ranks divide them."""
    times: int = 1
    """Of the widths: rows of a convolution, or numbers per channel."""
    number_bytes: float | None = None
    """Of one number; None: an activation's."""

    def numbers(self, tp: int | None = None) -> int:
        """Return the numbers of one of ``tp`` ranks; None: of the model."""
        sides = (width.whole if tp is None else width.on_rank(tp) for width in self.widths)
        return self.times * sum(sides)

    def bytes(self, activation_bytes: float, tp: int | None = None) -> float:
        """Return the bytes of one of ``tp`` ranks; None: of the model."""
        one = activation_bytes if self.number_bytes is None else self.number_bytes
        return self.numbers(tp) * one


class Reach(NamedTuple):
    """How many positions a query attends. Caches of equal reach need one count."""

    positions: int | None
    """At most; None for all of them."""
    chosen: bool = False
    """Whether an index chose them, so that the queries of a chunk attend other ones each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One of the caches of a layer. Layers with equal caches are one class."""

    kind: str
    """heads, latent, index, compressed or state."""
    per_entry: Width = NOTHING
    """Numbers of one entry: KV heads are divided among ranks, a latent vector every rank has."""
    every: int = 1
    """Tokens that share an entry."""
    overlap: int = 1
    """Entries that a token is part of."""
    window: int | None = None
    """Positions that a token attends, itself included, and that are kept; None for all of them."""
    most_read: int | None = None
    """Entries that a query attends at most, of all that are kept: those that an index chose."""
    fp8_entry_bytes: int | None = None
    """Of an entry on one rank in fp8, with its scales and what stays in 16 bits; None: a byte a
    number."""
    always_fp8: bool = False
    """Whether it is fp8 whatever ``kv_cache_dtype`` says."""
    states: tuple[State, ...] = ()
    """Of a sequence."""
    kept: bool = True
    """False: the cache of an earlier layer, which is read here and takes no memory of its own."""

    @property
    def reach(self) -> tuple[int | None, int]:
        """What tells how many entries a query attends: (the most or None for all, ``every``).

        Caches of equal reach need one count.
        """
        return (self.window if self.most_read is None else self.most_read, self.every)

    @property
    def read(self) -> Reach | None:
        """How many positions a query attends, whether they share entries or not.

        None: no entries, but what a sequence keeps whatever its length.
        """
        if not self.per_entry.whole:
            return None
        most, every = self.reach
        return Reach(None if most is None else most * every, self.most_read is not None)

    def entry_numbers(self, tp: int | None = None) -> int:
        """Return the numbers of an entry on one of ``tp`` ranks; None: of the model."""
        return self.per_entry.whole if tp is None else self.per_entry.on_rank(tp)

    def entry_bytes(self, kv_bytes: float, tp: int | None = None) -> float:
        """Return the bytes of an entry.

        Args:
            kv_bytes: of one number of the KV cache, as the engine's ``kv_cache_dtype`` has it.
            tp: ranks, of which one's entry is meant; None: the model's.
        """
        one_byte = 1.0 if self.always_fp8 else kv_bytes
        if one_byte <= 1.0 and self.fp8_entry_bytes is not None:
            return self.fp8_entry_bytes
        return self.entry_numbers(tp) * one_byte

    def token_bytes(self, kv_bytes: float, tp: int | None = None) -> float:
        """Return the bytes that one more token takes, within the window; see ``entry_bytes``."""
        return self.entry_bytes(kv_bytes, tp) / self.every if self.kept else 0.0

    def sequence_bytes(self, activation_bytes: float, tp: int | None = None) -> float:
        """Return the bytes of a sequence's states."""
        return sum(state.bytes(activation_bytes, tp) for state in self.states)
