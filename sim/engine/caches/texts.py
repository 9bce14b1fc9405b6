"""Where the blocks of a text are, as runs: what is found, and what becomes of it."""

from sim.engine.caches.homes import Homes
from sim.engine.caches.runs import ANONYMOUS, FreeQueue, Run

Spans = list[tuple[int, int]]
"""Streams of a text, and behind which of its tokens, or blocks, each of them ends."""

Piece = tuple[Run, int, int]
"""A part of a run: from which block on, and how many."""


class Texts:
    """Where the blocks of each stream are: the oldest of each, and copies."""

    def __init__(self, queue: FreeQueue) -> None:
        self.oldest: dict[int, list[Run]] = {}
        """Of each stream, in order, none with a block of another."""
        self.copies: dict[int, list[Run]] = {}
        """Of each stream, the older first; they may overlap."""
        self._queue = queue
        self.homes: Homes | None = None
        """Where it is noted which streams have a block here, if anybody wants to know."""
        self.number = 0
        """Of the replica, there."""
        self.saw_free = False
        """Whether ``reach`` came to a block that nobody holds, since somebody set this to False."""

    def everyone(self) -> set[Run]:
        """All runs that can be found, or could be if older ones were gone."""
        lists = [*self.oldest.values(), *self.copies.values()]
        return {run for runs in lists for run in runs}

    def beginning(
        self,
        text: Spans,
        block_size: int,
        most: int,
        have: int = 0,
        groups: int = 1,
        group: int = 0,
    ) -> int:
        """Return how many blocks of a text are here behind each other, of which ``have`` are known.

        Args:
            text: streams, and behind which of its tokens each of them ends.
            block_size: tokens of a block.
            most: blocks; no more are looked for.
            have: blocks from the text's first on that need not be here.
            groups: of the cache; the blocks of a stream in one of them are streams of their own.
            group: of these the one that is looked through.
        """
        for stream, end in text:
            stop = min(end // block_size, most)
            if have < stop:
                have = self.reach(stream * groups + group, have, stop)
                if have < stop:
                    break
        return have

    def reach(self, stream: int, first: int, stop: int) -> int:
        """Return where the blocks of a stream end that follow each other from ``first`` on: at most
        at ``stop``, and at ``first`` if that is not here. ``saw_free`` notes free ones."""
        runs = self.oldest.get(stream)
        if runs is None:
            return first
        at = place(runs, first)
        while first < stop and 0 <= at < len(runs):
            run = runs[at]
            if run.first > first or run.end <= first:
                break
            if not run.holders:
                self.saw_free = True
            first = min(run.end, stop)
            at += 1
        return first

    def pieces(self, stream: int, first: int, stop: int) -> list[Piece]:
        """Return of which runs the blocks from ``first`` to before ``stop`` are; all are here."""
        found: list[Piece] = []
        if first < stop:
            runs = self.oldest[stream]
            at = place(runs, first)
            while first < stop:
                run = runs[at]
                blocks = min(run.end, stop) - first
                found.append((run, first, blocks))
                first += blocks
                at += 1
        return found

    def split(self, run: Run, at: int) -> Run:
        """Let a run end before block ``at``; return the run that goes on from there."""
        tail = Run(run.stream, at, run.end - at, run.holders, run.copy)
        if run.holders:
            tail.rest, run.rest = run.rest, tail
        run.count = at - run.first
        if run.watchers is not None:
            for watcher in run.watchers:
                watcher.watch(tail)
        self._queue.put_before(tail, run)
        runs = (self.copies if run.copy else self.oldest)[run.stream]
        runs.insert(runs.index(run) + 1 if run.copy else place(runs, run.first) + 1, tail)
        return tail

    def cut(self, run: Run, first: int, end: int) -> Run:
        """Return the part of a run as a run of its own."""
        if first > run.first:
            run = self.split(run, first)
        if end < run.end:
            self.split(run, end)
        return run

    def name(self, stream: int, first: int, end: int, last: Run | None) -> tuple[list[Run], int]:
        """Taken blocks hold a text now, and one request holds them.

        Returns new runs for them, and by how many blocks ``last``, its run before, was extended.
        """
        if stream not in self.oldest:
            self.oldest[stream] = []
            if self.homes is not None:
                self.homes.enter(stream, self.number)
        runs = self.oldest[stream]
        named: list[Run] = []
        added = 0
        while first < end:
            at, stop = place(runs, first), end
            covered = at >= 0 and runs[at].end > first
            if covered:
                stop = min(runs[at].end, end)
            elif at + 1 < len(runs):
                stop = min(runs[at + 1].first, end)
            if not covered and at >= 0 and runs[at] is last and _goes_on(last, first):
                last.count += stop - first
                added += stop - first
                first = stop
                continue
            run = Run(stream, first, stop - first, 1, covered)
            if not covered:
                runs.insert(at + 1, run)
            elif stream in self.copies:
                self.copies[stream].append(run)
            else:
                self.copies[stream] = [run]
            named.append(run)
            first, last = stop, None
        return named, added

    def keep(self, run: Run) -> None:
        """Let a free run be found that nobody could look for: no other has a block of it."""
        run.loose = False
        if run.stream in self.oldest:
            runs = self.oldest[run.stream]
            runs.insert(place(runs, run.first) + 1, run)
        else:
            self.oldest[run.stream] = [run]

    def take_first(self, blocks: int) -> None:
        """So many free blocks, the first of the queue, are taken for something else."""
        queue = self._queue
        while blocks:
            run = queue.first()
            count = min(run.count, blocks)
            if count == run.count:
                queue.remove(run)
            if run.stream == ANONYMOUS or run.loose:
                run.count -= count
            else:
                self.forget(run, count)
            blocks -= count

    def forget(self, run: Run, blocks: int) -> None:
        """The last blocks of a free run are taken for something else."""
        end = run.end
        run.count -= blocks
        stream = run.stream
        runs = (self.copies if run.copy else self.oldest)[stream]
        if not run.count:
            if run.copy:
                runs.remove(run)
            else:
                del runs[place(runs, run.first)]
        if not run.copy and stream in self.copies:
            self._promote(stream, end - blocks, end)
        if run.copy and not runs:
            del self.copies[stream]
        elif not run.copy and not self.oldest[stream]:
            del self.oldest[stream]
            if self.homes is not None:
                self.homes.leave(stream, self.number)

    def _promote(self, stream: int, first: int, end: int) -> None:
        """The oldest of some blocks are gone: the next older ones are found from now on."""
        missing = [(first, end)]
        while missing:
            start, stop = missing.pop()
            for copy in self.copies[stream]:
                low, high = max(start, copy.first), min(stop, copy.end)
                if low < high:
                    found = self.cut(copy, low, high)
                    self.copies[stream].remove(found)
                    found.copy = False
                    runs = self.oldest[stream]
                    runs.insert(place(runs, low) + 1, found)
                    missing += [(start, low)] if start < low else []
                    missing += [(high, stop)] if high < stop else []
                    break
        if not self.copies[stream]:
            del self.copies[stream]


def _goes_on(run: Run, block: int) -> bool:
    """Whether a run that one request holds, and nobody watches, ends just before a block."""
    alone = run.holders == 1 and run.rest is None and run.watchers is None
    return alone and run.end == block


def place(runs: list[Run], block: int) -> int:
    """Return the place of the last run that begins at a block or before; -1 for none."""
    low, high = 0, len(runs)
    while low < high:
        middle = (low + high) // 2
        if runs[middle].first <= block:
            low = middle + 1
        else:
            high = middle
    return low - 1
