"""What replicas have cached of a prompt, as vLLM's KV events would tell it: now, and exactly.

Engines count the blocks that decoding takes, and look whose they were when somebody asks. So an
engine that is asked in the middle of many steps is first told which of them have ended.
"""

from collections.abc import Callable

from sim.engine.caches.homes import Homes
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.loop import Loop
from sim.seen.texts import Text


class Caches:
    """The prefix caches of all replicas.

    Args:
        loops: the engines.
        steps_ended: of the run under way of an engine, by its number.
    """

    def __init__(self, loops: list[Loop], steps_ended: Callable[[int], int]) -> None:
        self._loops = loops
        self._steps_ended = steps_ended
        self._homes = Homes()
        self._caches: list[PrefixCache | None] = []
        self._largest = 1
        for number, loop in enumerate(loops):
            pool = loop.scheduler.pool
            self._largest = max(self._largest, pool.block_size)
            if isinstance(pool, PrefixCache):
                pool.watch(self._homes, number)
                self._caches.append(pool)
            else:
                self._caches.append(None)

    def cached_tokens(self, text: Text, tokens: int) -> list[int]:
        """Return how many of the first ``tokens`` tokens each replica has in full blocks."""
        found = [0] * len(self._loops)
        self._let_tell(text)
        for number in self._candidates(text):
            found[number] = self._found(number, text, tokens)
        return found

    def tokens_on(self, number: int, text: Text, tokens: int) -> int:
        """Return the same of one replica."""
        self._let_tell(text)
        return self._found(number, text, tokens)

    def _found(self, number: int, text: Text, tokens: int) -> int:
        cache = self._caches[number]
        if cache is None:
            return 0
        most = tokens // cache.block_size
        have = cache.cached_blocks(text, most)
        if not cache.saw_free or cache.spares(self._taken_at_most(number)):
            return have * cache.block_size
        if cache.settle(self._taken(number)):
            have = cache.cached_blocks(text, most)
        return have * cache.block_size

    def _let_tell(self, text: Text) -> None:
        """Let answers under way that go on with a text tell the blocks that they have filled."""
        told = self._homes.told
        for stream, _ in text:
            if stream in told:
                for number in list(told[stream]):
                    self._tell(number)

    def _candidates(self, text: Text) -> list[int]:
        """Return who can have the first block."""
        found: dict[int, None] = {}
        homes = self._homes.of
        for stream, end in text:
            if stream in homes:
                found.update(homes[stream])
            if end >= self._largest:
                break
        return list(found)

    def _taken_at_most(self, number: int) -> int:
        """Blocks that the whole run under way takes, or more."""
        loop = self._loops[number]
        batch = loop.batch
        if batch is None or batch.chunks:
            return 0
        steps = len(loop.journal.step_end_s) - loop.journal.steps
        return batch.decodes * (steps // loop.scheduler.pool.block_size + 1)

    def _taken(self, number: int) -> int:
        """Blocks that the run under way took, beyond those of its first step."""
        loop = self._loops[number]
        batch = loop.batch
        if batch is None or batch.chunks:
            return 0
        steps = self._steps_ended(number)
        if not steps:
            return 0
        return loop.scheduler.decoding.blocks_needed_after(steps) - loop.scheduler.taken_early

    def _tell(self, number: int) -> None:
        loop, cache = self._loops[number], self._caches[number]
        assert cache is not None
        step = loop.scheduler.decoding.step
        if loop.batch is None:
            cache.tell(step, 0)
        elif loop.batch.chunks:
            cache.tell(step, 1)
        else:
            cache.tell(step + self._steps_ended(number), 1)
