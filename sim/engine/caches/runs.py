"""Runs of KV blocks, and in which order free ones are taken.

A run is a stretch of blocks of one text that have the same holders, and, if nobody holds them, lie
side by side in the queue of free blocks. It is split when somebody takes a part of it::

    stream 7    |----- run of blocks 0..31 -----|--- 32..47 ---|
    wanted      |----------- 0..39 -----------------|            splits the second one at 40

So what a request costs depends on how many runs it has, not on how long its prompt is.
"""

from typing import Final

ANONYMOUS: Final = -1
"""Stream of free blocks that nobody can look for."""


class Run:
    """``count`` blocks of a stream, from ``first`` on."""

    __slots__ = (
        "after", "before", "copy", "count", "first", "holders", "loose", "rest", "stream",
        "watchers",
    )  # fmt: skip

    def __init__(self, stream: int, first: int, count: int, holders: int, copy: bool) -> None:
        self.stream = stream
        self.first = first
        self.count = count
        self.holders = holders
        """Requests that hold all of it; 0: it is free."""
        self.copy = copy
        """Whether there are older blocks of the same text, which are found instead."""
        self.loose = False
        """Whether nobody can look for it yet, as whose text it is still runs."""
        self.rest: Run | None = None
        """Who held this run before it was split goes on there."""
        self.before: Run | None = None
        self.after: Run | None = None
        """Neighbours in the queue of free blocks; None: it is not there."""
        self.watchers: list[Watcher] | None = None
        """Who wants to know what becomes of it, also when it was split; None: nobody."""

    @property
    def end(self) -> int:
        """The block behind it."""
        return self.first + self.count


class Watcher:
    """Somebody who gave blocks back, and wants to know what becomes of them."""

    __slots__ = ("left",)

    def __init__(self, left: list[Run]) -> None:
        self.left = left
        """The runs in which they lie."""

    def watch(self, run: Run) -> None:
        """Add it to these, and what it is split into."""
        self.left.append(run)
        self.follow(run)

    def follow(self, run: Run) -> None:
        """Want to know what one of these is split into."""
        if run.watchers is None:
            run.watchers = [self]
        else:
            run.watchers.append(self)


class FreeQueue:
    """Free runs, first to go first; of a run the last block goes first."""

    def __init__(self) -> None:
        self._ends = Run(ANONYMOUS, 0, 0, 0, False)  # closes the ring
        self._ends.before = self._ends.after = self._ends

    def first(self) -> Run:
        """Return who goes next; there must be one."""
        first = self._ends.after
        assert first is not None
        return first

    def append(self, run: Run) -> None:
        """Add behind all others."""
        self._insert(run, self._ends)

    def put_first(self, run: Run) -> None:
        """Add before all others."""
        self._insert(run, self.first())

    def put_unnamed_first(self, blocks: int) -> None:
        """Add blocks that nobody can look for before all others."""
        if not blocks:
            return
        first = self.first()
        if first is not self._ends and first.stream == ANONYMOUS:
            first.count += blocks
        else:
            self.put_first(Run(ANONYMOUS, 0, blocks, 0, False))

    def append_unnamed(self, blocks: int) -> None:
        """Add blocks that nobody can look for behind all others."""
        if not blocks:
            return
        last = self._ends.before
        assert last is not None
        if last is not self._ends and last.stream == ANONYMOUS:
            last.count += blocks
        else:
            self.append(Run(ANONYMOUS, 0, blocks, 0, False))

    def put_before(self, run: Run, other: Run) -> None:
        """Add just before another one, if that is here."""
        if other.after is not None:
            self._insert(run, other)

    def _insert(self, run: Run, after: Run) -> None:
        before = after.before
        assert before is not None
        run.before, run.after = before, after
        before.after = after.before = run

    def remove(self, run: Run) -> None:
        """Take one out."""
        before, after = run.before, run.after
        assert before is not None
        assert after is not None
        before.after, after.before = after, before
        run.before = run.after = None

    def runs(self) -> list[Run]:
        """Everyone, in order."""
        runs: list[Run] = []
        run = self.first()
        while run is not self._ends:
            runs.append(run)
            assert run.after is not None
            run = run.after
        return runs
