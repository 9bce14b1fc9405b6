"""Where the blocks that a request gives back go in the queue of free ones."""

from sim.engine.caches.block_tables import Interval, Table, count, taken_out
from sim.engine.caches.hits import Kind
from sim.engine.caches.runs import ANONYMOUS, FreeQueue, Run
from sim.engine.caches.texts import Texts


class Giving:
    """Gives blocks back.

    Args:
        queue: of free blocks.
        texts: where blocks with names are.
    """

    def __init__(self, queue: FreeQueue, texts: Texts) -> None:
        self._queue, self._texts = queue, texts
        self.apart = False
        """Whether it matters of each group what its window left behind, while a request runs."""

        self.backwards = False
        """Whether the last group of a kind gives its blocks back first."""

    def before(
        self, tables: list[Table], kind: Kind, end: int, full: int, own: int = ANONYMOUS
    ) -> int:
        """Give back the blocks before ``end`` in all groups of a kind; return how many are free.

        Of windows those that can be found again have names, of full attention all full ones.

        Args:
            tables: what is held, of each group.
            kind: see above.
            end: see above.
            full: behind the last block that is full.
            own: stream under which the request finds what nobody else has, while it runs;
                ``ANONYMOUS``: it has ended.
        """
        table, freed = tables[kind.first], 0
        kept = table.take_own(end) if table.own else []
        if not table.holds(end) and (not kept or own == ANONYMOUS):
            freed = self._alike(table, kind, end, full, count(kept), own)
            for group in range(kind.first, kind.first + kind.count):
                tables[group].leave(end)
            return freed
        groups = list(range(kind.first, kind.first + kind.count))
        for group in reversed(groups) if self.backwards else groups:
            freed += self._of_one(tables[group], kind, end, full, kept, own)
        return freed

    def own_before(self, tables: list[Table], kind: Kind, end: int, own: int) -> int:
        """The same of a request that runs, if all of these blocks are its own ones."""
        table = tables[kind.first]
        first = table.cut_own(end)
        blocks = end - first
        if not self.apart:
            table.leaves_alike(self._loose(own, first, blocks * kind.count), blocks)
        for group in range(kind.first, kind.first + kind.count):
            if self.apart:
                self._leave(tables[group], own, first, end)
            tables[group].gone = end
        return blocks * kind.count

    def _alike(
        self, table: Table, kind: Kind, end: int, full: int, kept: int, own: int
    ) -> int:  # fmt: skip
        """None of these blocks can be found, ``kept`` of them as their request has ended."""
        blocks, groups, queue = table.count(end), kind.count, self._queue
        if _unhashed_first(kind, own):
            unhashed = end - min(end, max(full, table.hit)) if kind.full else blocks - kept
            queue.put_unnamed_first(unhashed * groups)
            queue.append_unnamed((blocks - unhashed) * groups)
        else:
            queue.append_unnamed(blocks * groups)
        return blocks * groups

    def _of_one(
        self, table: Table, kind: Kind, end: int, full: int, kept: list[Interval], own: int
    ) -> int:
        unnamed, queue = table.count(end) - count(kept), self._queue
        pieces: list[Run] = taken_out(table, end, self._texts) if table.held else []
        for run in pieces:
            unnamed -= run.count
        freed, at, unhashed_first = unnamed, end, _unhashed_first(kind, own)
        if unhashed_first:
            unhashed = end - min(end, max(full, table.hit)) if kind.full else unnamed
            queue.put_unnamed_first(unhashed)
            queue.append_unnamed(unnamed - unhashed)  # behind what others may look for
        for first, behind in reversed(kept):
            if not unhashed_first:
                queue.append_unnamed(at - behind)
                at = first
            freed += behind - first
            if own == ANONYMOUS:
                queue.append_unnamed(behind - first)
            else:
                self._leave(table, own, first, behind)
        for run in reversed(pieces):
            if not unhashed_first:
                queue.append_unnamed(at - run.end)
                at = run.first
            run.holders -= 1
            if table.watched:
                table.leaves(run)
            if not run.holders:
                run.rest = None
                queue.append(run)
                freed += run.count
        if not unhashed_first:
            queue.append_unnamed(at - table.gone)
        table.leave(end)
        if table.stuck and own == ANONYMOUS:
            freed += self._let_go(table, unhashed_first)
        return freed

    def _let_go(self, table: Table, unhashed_first: bool) -> int:
        """A request has ended that held what it had left behind, which is given back last."""
        freed, queue = 0, self._queue
        for run in reversed(table.stuck):
            if run is not None:
                run.holders -= 1
                if run.holders:
                    continue
                queue.append(run)
            elif unhashed_first:
                queue.put_unnamed_first(1)
            else:
                queue.append_unnamed(1)
            freed += 1
        table.stuck = []
        return freed

    def _loose(self, own: int, first: int, blocks: int) -> Run:
        run = Run(own, first, blocks, 0, False)
        run.loose = True
        self._queue.append(run)
        return run

    def _leave(self, table: Table, own: int, first: int, end: int) -> None:
        table.leaves(self._loose(own, first, end - first))

    def tell_apart(self, tables: list[Table], kind: Kind) -> None:
        """Note of each group of a kind what windows left behind in all of them at once."""
        alike, tables[kind.first].left_alike = tables[kind.first].left_alike, []
        for run, blocks in alike:
            if run.after is None:
                continue
            taken = blocks * kind.count - run.count  # of the first groups, their last blocks first
            for group in range(kind.first, kind.first + kind.count):
                of_group = min(taken, blocks)
                taken -= of_group
                if of_group < blocks:
                    part = Run(run.stream, run.first, blocks - of_group, 0, False)
                    part.loose = True
                    self._queue.put_before(part, run)
                    tables[group].leaves(part)
            self._queue.remove(run)

    def keep_left(self, table: Table, key: int) -> None:
        """Let what windows left behind, as far as it is there still, be found under a stream."""
        for run in table.left:
            if run.after is not None and run.loose:
                run.stream = key
                self._texts.keep(run)
        if not table.watched:
            table.left = []


def _unhashed_first(kind: Kind, own: int) -> bool:
    return kind.unhashed_first if own == ANONYMOUS else kind.skipped_first
