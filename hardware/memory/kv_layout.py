"""Groups of layers, each with a table of blocks of its own, and a pool of equal blocks for all."""

from collections.abc import Collection
from dataclasses import replace
from math import lcm

from model.counts import count_of
from model.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KvGroup:
    """Layers that share a table of blocks."""

    layers: int
    block_tokens: int
    """Tokens of one block."""
    window: int | None = None
    """Positions that are kept; None: all."""
    chunked: bool = False
    """Whether what is kept begins anew with every so many positions, and is no window of them."""
    state: bool = False
    """Whether it keeps a fixed number of blocks for a request, whatever its length."""
    states: int = 1
    """Blocks of a request with a state, at most: one, one behind every draft, and where prompts
    find what others had those that they begin with."""
    drafts: bool = False
    """Whether layers of a drafter are among those that are alike."""

    def most_blocks(self, tokens: int, in_flight_tokens: int) -> int:
        """Return the blocks that a request of so many tokens holds at most.

        Args:
            tokens: prompt and output together.
            in_flight_tokens: most that are scheduled and not computed yet. Blocks are given back
                for what is computed, and a window may begin within a block; a chunk does not.
        """
        if self.state:
            return self.states
        if self.window is None:
            return -(-tokens // self.block_tokens)
        if self.chunked:
            return -(-min(self.window + in_flight_tokens, tokens) // self.block_tokens)
        kept = min(self.window - 1 + in_flight_tokens, tokens)
        return -(-kept // self.block_tokens) + 1

    def __str__(self) -> str:
        layers = count_of(self.layers, "layer")
        if self.state:
            blocks = "a block" if self.states == 1 else count_of(self.states, "block")
            return f"{layers} with a state, {blocks} a request"
        what = "chunks" if self.chunked else "a window"
        kept = "" if self.window is None else f" within {what} of {self.window}"
        return f"{layers}{kept}, {self.block_tokens} tokens a block"


@dataclass(frozen=True, slots=True)
class KvLayout:
    """The groups of a model on one rank."""

    groups: tuple[KvGroup, ...]
    block_bytes: int
    """Of a block of any group, on one rank."""
    page_bytes: int = 0
    """Of one layer in a block, where there are several groups."""
    places: tuple[tuple[int, ...], ...] = ()
    """Of several groups, which layers of the model are in each."""

    def of_stage(self, layers: Collection[int]) -> "KvLayout":
        """Return the same groups with the layers of a pipeline stage alone.

        A block has room for the group that has most of them (``get_kv_cache_config_from_groups`` of
        what ``_project_kv_cache_groups_to_worker`` leaves).
        """
        most = max(sum(place in layers for place in places) for places in self.places)
        return replace(self, block_bytes=most * self.page_bytes)

    @property
    def block_tokens(self) -> int:
        """Tokens of the smallest block."""
        return min((each.block_tokens for each in self.groups if not each.state), default=1)

    @property
    def has_states(self) -> bool:
        """Whether some layers keep a state."""
        return any(each.state for each in self.groups)

    @property
    def hit_tokens(self) -> int:
        """Tokens that a prefix found in all groups is a multiple of."""
        return lcm(*(each.block_tokens for each in self.groups if not each.state))

    def most_blocks(self, tokens: int, in_flight_tokens: int) -> int:
        """Return the blocks that a request holds at most; see ``KvGroup.most_blocks``."""
        return sum(group.most_blocks(tokens, in_flight_tokens) for group in self.groups)
