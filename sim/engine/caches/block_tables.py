"""What one request holds in one group of a KV cache with prefix caching, and what of it is kept.

    window = 6, block_size = 4, a prompt of 19 tokens, 3 blocks of which were found:

    blocks    [null] [k1] [k2] [k3] [  ]     gone = 1, hit = 3, named = 4
               left   found     named

A group with a window gives blocks back while its request runs. Which of its blocks can be found
again is vLLM's ``prefix_cache_retention_interval`` (``SlidingWindowManager.reachable_block_mask``):
those that a hit needs which ends at a place where one is expected. All others have no hash, and are
taken first.
"""

from typing import Final

from sim.engine.caches.runs import Run, Watcher
from sim.engine.caches.texts import Texts

DENSE: Final = -1
"""A retention interval: every block of a window is kept."""

Interval = tuple[int, int]
"""Blocks from the first to before the second."""


class Stretch:
    """Blocks from the first to before ``end``, of which the first ones are given back in time."""

    __slots__ = ("end", "first")

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end


_NO_STRETCHES: Final[list[Stretch]] = []
_NO_RUNS: Final[list[Run]] = []
_NO_RUNS_ALIKE: Final[list[tuple[Run, int]]] = []
_NO_BLOCKS: Final[list[int]] = []
_NO_HELD: Final[list[tuple[Run, int]]] = []
_NO_STUCK: Final[list[Run | None]] = []
"""Of all tables that have none of these, as most have: replaced, and never changed."""


class Table(Watcher):
    """Blocks of one request in one group.

    ``left`` has, of those in ``own``, what a window has left behind: it is found if the request
    loses its blocks.
    """

    __slots__ = (
        "apart", "gone", "held", "hit", "keeps", "left_alike", "named", "own", "solid", "start",
        "stuck", "watched",
    )  # fmt: skip

    def __init__(self, gone: int, hit: int, held: list[tuple[Run, int]] = _NO_HELD) -> None:
        super().__init__(_NO_RUNS)
        self.gone = gone
        """Blocks that the window has left behind: given back, or never held."""
        self.hit = hit
        """Behind the last block that was found when it was admitted."""
        self.held = held
        """Runs that can be found, in order of their blocks, and how many blocks each had then."""
        self.named = hit
        """Behind the last block of which it is settled whether it can be found."""
        self.keeps: list[Interval] | None = None
        """Blocks behind the hit that can be found, if these are not all."""
        self.own = _NO_STRETCHES
        """Behind those, in all groups of a kind, and noted in the first of them: blocks that are
        kept, of a text that nobody else has. While it runs no one looks for them, and once it has
        ended no one can."""
        self.left_alike = _NO_RUNS_ALIKE
        """As ``left``, of all groups of a kind, one after the other in a run, and how many blocks
        each of them left: noted in the first of them, until somebody has to know of each."""
        self.apart = _NO_BLOCKS
        """Of states: blocks that are there before ``solid``, in order."""
        self.solid = 0
        """From here on every block is there, as far as any were taken."""
        self.start = -1
        """Of states: the block with which the last step began that took another one."""
        self.stuck = _NO_STUCK
        """Of states: what is left behind and held all the same, in order; None: without a name."""
        self.watched = False
        """Whether somebody wants to know what becomes of the blocks that it gives back: then
        ``left`` has all of them that have names, and what is kept is not lost among others."""

    def count(self, end: int) -> int:
        """Blocks that are held before ``end``."""
        if not self.solid:
            return end - self.gone if end > self.gone else 0
        blocks = max(end - max(self.gone, self.solid), 0)
        for block in self.apart:
            blocks += int(block < end)
        return blocks

    def leave(self, end: int) -> None:
        """Those before ``end`` are given back."""
        self.gone = end
        if self.apart:
            self.apart = [block for block in self.apart if block >= end]

    def holds(self, end: int) -> bool:
        """Whether others may find some of the blocks before ``end``, or not all are there."""
        if self.solid:
            return True
        held = self.held
        return len(held) > 0 and held[0][0].first < end

    def all_own(self, end: int) -> bool:
        """Whether all blocks before ``end`` that are there are its own ones."""
        own = self.own
        return len(own) > 0 and own[0].first <= self.gone and own[0].end >= end

    def add_own(self, first: int, end: int) -> None:
        """These are kept, and nobody else has their text."""
        own = self.own
        if own and own[-1].end == first:
            own[-1].end = end
        else:
            self.own = [*own, Stretch(first, end)]

    def leaves(self, run: Run) -> None:
        """A window left behind what nobody else has; if it is ``watched``, what has a name, too."""
        left = self.left
        if left and left[0].after is None:  # those in front are taken first
            left = [each for each in left if each.after is not None or each.holders]
        self.left = left if left else []
        if self.watched:
            self.watch(run)
        else:
            self.left.append(run)

    def be_watched(self) -> None:
        """Note from now on what becomes of all blocks that it gives back, or gave back before."""
        if not self.watched:
            self.watched = True
            for run in self.left:
                self.follow(run)

    def leaves_alike(self, run: Run, blocks: int) -> None:
        """So did those of all groups of a kind, so many blocks in each."""
        left = self.left_alike
        if left and left[0][0].after is None:
            left = [each for each in left if each[0].after is not None]
        self.left_alike = left if left else []
        self.left_alike.append((run, blocks))

    def cut_own(self, end: int) -> int:
        """Take those before ``end`` out, which are all of one stretch; return where it began."""
        stretch = self.own[0]
        first = stretch.first
        if stretch.end > end:
            stretch.first = end
        else:
            del self.own[0]
        return first

    def take_own(self, end: int) -> list[Interval]:
        """Take those before ``end`` out."""
        own, taken = self.own, list[Interval]()
        while own:
            stretch = own[0]
            if stretch.first >= end:
                break
            taken.append((stretch.first, min(stretch.end, end)))
            if stretch.end > end:
                stretch.first = end
                break
            del own[0]
        return taken

    def there(self, intervals: list[Interval]) -> list[Interval]:
        """Return what of these blocks was ever taken."""
        if not self.solid:
            return intervals
        found: list[Interval] = []
        for low, high in intervals:
            found += [(block, block + 1) for block in self.apart if low <= block < high]
            if max(low, self.solid) < high:
                found.append((max(low, self.solid), high))
        return found


class Kept:
    """Which blocks of a window's group are kept to be found again.

    Args:
        block_size: tokens of one of its blocks.
        window: positions that are kept; None: all.
        alignment: tokens that hits are a multiple of.
        retention: ``DENSE``, 0, or tokens between ends of hits that are always expected.
        drops: with drafts, whether a hit needs one block more, which is computed again.
        drafted: whether that is so in some group, so that hits end a block earlier.
        twice: whether a hit may end a block before where other requests had more, too (0.33 on).
    """

    def __init__(
        self,
        block_size: int,
        window: int | None,
        alignment: int,
        retention: int,
        drops: bool = False,
        drafted: bool = False,
        twice: bool = False,
    ) -> None:
        self.block_size = block_size
        self.alignment = alignment
        self.drops, self._drafted, self._twice = drops, drafted, twice and drops
        self.seen = 0 if window is None else (window + block_size - 2) // block_size
        """Blocks behind each other that a window sees."""
        self.need = self.seen + drops
        """Those that a hit needs."""
        self.sparse = retention != DENSE
        """Whether what is kept depends on the request."""
        segment = alignment if retention == DENSE else retention
        self.every = segment // block_size
        """Blocks between ends of hits; 0: no such ends."""
        self.all_along = self.every > 0
        """Whether blocks of answers are kept, too."""
        self.all = window is None or (segment > 0 and self.need >= self.every)

    def of(self, prompt_tokens: int, junction_tokens: int) -> list[Interval] | None:
        """Return what is kept of a request beside ``every``, in order; None: all.

        Args:
            prompt_tokens: a hit may end before the last of them.
            junction_tokens: or here, where other requests had more in other groups; 0: nowhere.
        """
        if self.all:
            return None
        if not self.sparse:
            return []
        size, alignment = self.block_size, self.alignment
        ends = [prompt_tokens - 1]
        if self._drafted:  # the same prompt again, or one that goes on behind it
            ends = [max(each - alignment, 0) for each in (prompt_tokens - 1, prompt_tokens)]
        if junction_tokens:
            ends.append(junction_tokens)
            if self._twice:
                ends.append(junction_tokens - size)
        tails: list[Interval] = []
        if len(ends) > 1:
            ends.sort()
        for tokens in ends:
            end = tokens // alignment * alignment // size + self.drops
            first = max(0, end - self.need)
            if tails:
                first = max(first, tails[-1][1])
            if first < end:
                tails.append((first, end))
        return tails

    def within(self, keeps: list[Interval] | None, first: int, end: int) -> list[Interval]:
        """Return which of the blocks from ``first`` to before ``end`` are kept, in order."""
        if first >= end:
            return []
        if keeps is None:
            return [(first, end)]
        found: list[Interval] = []
        for low, high in keeps:
            low, high = max(low, first), min(high, end)
            if low < high:
                found.append((low, high))
        if not self.every:
            return found
        return _joined(found + self._tails(first, end))

    def _tails(self, first: int, end: int) -> list[Interval]:
        tails = []
        stop = (max(first - self.drops, 0) // self.every + 1) * self.every + self.drops
        while stop - self.need < end:
            low, high = max(first, stop - self.need), min(end, stop)
            if low < high:
                tails.append((low, high))
            stop += self.every
        return tails


def _joined(intervals: list[Interval]) -> list[Interval]:
    """In order, none with a block of another."""
    joined: list[Interval] = []
    for low, high in sorted(intervals):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def count(intervals: list[Interval]) -> int:
    """Blocks of these."""
    blocks = 0
    for low, high in intervals:
        blocks += high - low
    return blocks


def runs_of(table: Table) -> list[Run]:
    """Return the runs of a table, as they were split since."""
    runs: list[Run] = [run for run in table.stuck if run is not None]
    for run, blocks in table.held:
        left = blocks - run.count
        runs.append(run)
        while left:
            assert run.rest is not None
            run = run.rest
            left -= run.count
            runs.append(run)
    return runs


def taken_out(table: Table, end: int, texts: Texts) -> list[Run]:
    """Take the runs before block ``end`` out of a table; one that goes on behind it is split."""
    taken: list[Run] = []
    held, place = table.held, 0
    for place, (run, left) in enumerate(held):
        if run.first >= end:
            table.held = held[place:]
            return taken
        while left and run.first < end:
            if run.end > end:
                texts.split(run, end)
            taken.append(run)
            left -= run.count
            if left:
                assert run.rest is not None
                run = run.rest
        if left:
            table.held = [(run, left), *held[place + 1 :]]
            return taken
    table.held = []
    return taken
