"""Layers with a state, and prefix caching: vLLM's ``mamba_cache_mode: align``.

A state stands for all tokens before it, and can be found again where a block ends; so chunks of
prompts end there. A step leaves one state behind, in the block of its last token, whatever the
number of its tokens; the blocks before that are not there at all::

    block_size = 4, chunks of 8 and 3 tokens, then decoding:

    blocks   [  ] [k1] [k2]        k1 can be found: it is the state behind 8 tokens
              no        the state that changes from step to step

What is behind the last state is of no use to the request itself, so that a state's group is one of
a window of two tokens with holes in it. A kernel that ``exports`` leaves the state of a prompt's
last whole block behind as well, in a block of its own, and the chunk goes on to the prompt's end.
"""

from typing import Final

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import Table

WINDOW: Final = 2
"""Tokens of which a request keeps blocks: the state that it begins a step with, and no other."""


class StateGroup(BlockGroup):
    """Groups of states that are alike.

    Args:
        count: groups; each takes blocks of its own.
        block_size: tokens between two states that can be found.
        exports: whether a step can leave a second state behind.
        at_ends: whether only the last step of a prompt does (all that is kept is its end).
        sticks: whether a state that is left behind before a hole is held to the end (before 0.30).
    """

    __slots__ = ("at_ends", "exports", "sticks")

    def __init__(
        self, count: int, block_size: int, exports: bool, at_ends: bool, sticks: bool = False
    ) -> None:
        super().__init__(count, block_size, WINDOW, 2 + int(exports))
        self.of_states = True
        self.exports, self.at_ends, self.sticks = exports, at_ends, sticks

    def takes(self, past: int, end: int, whole: int) -> int:
        """See ``BlockGroup``: one, and one more if a second state is left behind."""
        blocks = self.taken(end) - self.taken(past)
        return min(blocks, 1 + int(self.leaves_two(past, end, whole)))

    def leaves_two(self, past: int, end: int, whole: int) -> bool:
        """Whether a step leaves a state behind before its last one."""
        if not self.exports or (self.at_ends and end < whole):
            return False
        return (
            past % self.block_size == 0 and (end - 1) // self.block_size > past // self.block_size
        )

    def take(self, table: Table, past: int, end: int, whole: int) -> None:
        """Note in a table which blocks such a step takes."""
        have, need = self.taken(past), self.taken(end)
        if need > have:
            table.start = have - 1
        first = need - self.takes(past, end, whole)
        if first > have:
            table.apart = [*table.apart, *range(max(table.gone, table.solid), have)]
            table.solid = first

    def stuck(self, table: Table, computed: int, past: int) -> list[int]:
        """Return which blocks of a table are left behind and held all the same, in order.

        vLLM gave back what stands without a hole before the state behind ``computed`` tokens, and
        the one with which the last step began that took another (``MambaManager``'s and
        ``SingleTypeKVCacheManager.remove_skipped_blocks``, before 0.30).

        Args:
            table: of one group.
            computed: tokens, without those of the step in progress.
            past: with those.
        """
        end = min(self.behind(computed), table.solid)
        blocks = [block for block in table.apart if table.gone <= block < end]
        while blocks and blocks[-1] == end - 1:
            end -= 1
            blocks.pop()
        start = table.start
        if self.taken(past) > self.taken(computed):
            start = self.taken(computed) - 1
        return [block for block in blocks if block != start]


class StateSettings:
    """What a prefix cache of states is made with, beside ``HybridSettings``.

    Args:
        longest_chunk: tokens that a chunk of a prompt can have at most.
        ends_before_last: whether a prompt of whole blocks has an end before its last one (0.32 on).
        marks_again: whether the state at the end of a prompt counts as written in this step for as
            long as it is held (0.32).
    """

    def __init__(self, longest_chunk: int, ends_before_last: bool, marks_again: bool) -> None:
        self.longest_chunk = longest_chunk
        self.ends_before_last = ends_before_last
        self.marks_again = marks_again


class Ends:
    """Where chunks of prompts must end (``Scheduler._mamba_block_aligned_split``).

    Args:
        group: of states.
        settings: see there.
    """

    def __init__(self, group: StateGroup, settings: StateSettings) -> None:
        self._group = group
        self._size = group.block_size
        self._reaches = group.block_size <= settings.longest_chunk
        self._before_last = settings.ends_before_last

    def cut(self, past: int, tokens: int, prompt: int, target: int, junction: int) -> int:
        """Return how many of the tokens behind ``past`` a chunk has; 0: it has to wait.

        Args:
            past: tokens that are computed.
            tokens: that there is room for.
            prompt: tokens of the prompt.
            target: tokens to prefill.
            junction: where others had more than this one found; 0: nowhere.
        """
        size, end = self._size, past + tokens
        whole = whole_of(prompt, target)
        if past >= whole:
            return tokens
        last = (target - 1 if self._before_last else target) // size * size
        export = end >= whole and self._exports(past, whole)
        if export:
            last = 0
        if end < whole:
            aligned = end // size * size
            if aligned > past or self._reaches:
                end = aligned
        stop = end
        if past % size and not export:
            stop = _earlier(stop, (past // size + 1) * size, past)
        stop = _earlier(stop, last, past)
        if past < junction < end:
            stop = _earlier(stop, past + (junction - past) // size * size, past)
        return max(stop - past, 0)

    def _exports(self, past: int, whole: int) -> bool:
        size = self._size
        at_end = (whole - 1) // size * size
        return self._group.exports and past % size == 0 and at_end >= past + size


def whole_of(prompt: int, target: int) -> int:
    """Return behind which token a prompt is whole: one that was thrown out computes its last one
    as if it decoded."""
    return max(prompt, target - 1)


def _earlier(end: int, stop: int, past: int) -> int:
    return stop if past < stop < end else end
