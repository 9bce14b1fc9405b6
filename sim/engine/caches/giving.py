"""Where the blocks that a request gives back in one group go in the queue of free ones."""

from sim.engine.caches.block_tables import Table, count, taken_out
from sim.engine.caches.hits import Kind
from sim.engine.caches.runs import ANONYMOUS, FreeQueue, Run, Texts


class Giving:
    """Gives blocks back.

    Args:
        queue: of free blocks.
        texts: where blocks with names are.
    """

    def __init__(self, queue: FreeQueue, texts: Texts) -> None:
        self._queue, self._texts = queue, texts

    def unnamed(self, kind: Kind, blocks: int) -> None:
        """Give back blocks that cannot be found."""
        if kind.unhashed_first:
            self._queue.put_unnamed_first(blocks)
        else:
            self._queue.append_unnamed(blocks)

    def before(self, table: Table, kind: Kind, end: int, full: int, own: int) -> int:
        """Give back the blocks before ``end``; return how many are free now.

        Of windows those that can be found again have names, of full attention all full ones.

        Args:
            table: what is held.
            kind: of the group.
            end: see above.
            full: behind the last block that is full.
            own: stream under which the request finds what nobody else has, while it runs;
                ``ANONYMOUS``: it has ended.
        """
        unnamed, queue = table.count(end), self._queue
        kept = table.take_own(end) if table.own else []
        pieces: list[Run] = taken_out(table, end, self._texts) if table.held else []
        unnamed -= count(kept)
        for run in pieces:
            unnamed -= run.count
        freed, at = unnamed, end
        if kind.unhashed_first:
            unhashed = end - min(end, max(full, table.hit)) if kind.full else unnamed
            queue.put_unnamed_first(unhashed)
            queue.append_unnamed(unnamed - unhashed)  # behind what others may look for
        for first, behind in reversed(kept):
            if not kind.unhashed_first:
                queue.append_unnamed(at - behind)
                at = first
            freed += behind - first
            if own == ANONYMOUS:
                queue.append_unnamed(behind - first)
            else:
                self._leave(table, own, first, behind)
        for run in reversed(pieces):
            if not kind.unhashed_first:
                queue.append_unnamed(at - run.end)
                at = run.first
            run.holders -= 1
            if not run.holders:
                run.rest = None
                queue.append(run)
                freed += run.count
        if not kind.unhashed_first:
            queue.append_unnamed(at - table.gone)
        table.leave(end)
        return freed

    def _leave(self, table: Table, own: int, first: int, end: int) -> None:
        run = Run(own, first, end - first, 0, False)
        run.loose = True
        self._queue.append(run)
        left = table.left
        while left and left[0].after is None:  # those in front are taken first
            del left[0]
        left.append(run)

    def keep_left(self, table: Table) -> None:
        """Let what windows left behind, as far as it is there still, be found."""
        for run in table.left:
            if run.after is not None:
                self._texts.keep(run)
        table.left = []
