"""Turns that several viewers share: nobody waits for all that somebody else has asked for."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class Turns:
    """So many turns at a time.

    The next one is that of the viewer who has the fewest under way; of several such, of who had
    one longest ago. A viewer's own wait in the order in which they came.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._under_way: Counter[str] = Counter()
        self._began: dict[str, int] = {}
        """By viewer, how many turns had been begun when they last had one."""
        self._begun = 0

    async def take(self, viewer: str) -> None:
        """Wait for a turn."""
        if self._free:
            self._begin(viewer)
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(viewer, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                self._forget(viewer, mine)
            else:  # it was given, to somebody who has gone
                self.give(viewer)
            raise

    def give(self, viewer: str) -> None:
        """Give back a turn that a viewer had."""
        self._free += 1
        self._under_way[viewer] -= 1
        if not self._under_way[viewer]:
            del self._under_way[viewer]
        while self._waiting and self._free:
            following = min(self._waiting, key=self._merit)
            mine = self._waiting[following][0]
            self._forget(following, mine)
            if not mine.cancelled():
                self._begin(following)
                mine.set_result(None)
        if not self._under_way:
            self._began.clear()  # nobody waits: a history is for nothing

    @contextlib.asynccontextmanager
    async def turn(self, viewer: str) -> AsyncIterator[None]:
        """Have a turn for as long as this lasts."""
        await self.take(viewer)
        try:
            yield
        finally:
            self.give(viewer)

    def _merit(self, viewer: str) -> tuple[int, int]:
        return self._under_way[viewer], self._began.get(viewer, -1)

    def _begin(self, viewer: str) -> None:
        self._free -= 1
        self._under_way[viewer] += 1
        self._begun += 1
        self._began[viewer] = self._begun

    def _forget(self, viewer: str, mine: asyncio.Future[None]) -> None:
        line = self._waiting.get(viewer, deque())
        if mine in line:
            line.remove(mine)
            if not line:
                del self._waiting[viewer]
