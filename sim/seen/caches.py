"""What replicas have cached of a prompt, as vLLM's KV events would tell it: now, and exactly.

Engines count the blocks that decoding takes, and look whose they were when somebody asks. So an
engine that is asked in the middle of many steps is first told which of them have ended.
"""

from collections.abc import Callable

from sim.engine.homes import Homes
from sim.engine.loop import Loop
from sim.engine.prefix_cache import PrefixCache
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
        for number in self._candidates(text):
            found[number] = self.tokens_on(number, text, tokens)
        return found

    def tokens_on(self, number: int, text: Text, tokens: int) -> int:
        """Return the same of one replica."""
        cache = self._caches[number]
        if cache is None:
            return 0
        most = tokens // cache.block_size
        for stream, _ in text:
            if cache.tells(stream):
                self._tell(number, cache)
                break
        have = cache.cached_blocks(text, most)
        if cache.saw_free and cache.settle(self._taken(number)):
            have = cache.cached_blocks(text, most)
        return have * cache.block_size

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

    def _taken(self, number: int) -> int:
        """Blocks that the run under way took, beyond those of its first step."""
        loop = self._loops[number]
        batch = loop.batch
        if batch is None or batch.chunks:
            return 0
        steps = self._steps_ended(number)
        return loop.scheduler.decoding.blocks_needed_after(steps) if steps else 0

    def _tell(self, number: int, cache: PrefixCache) -> None:
        """Let answers tell the blocks that they have filled by now."""
        loop = self._loops[number]
        step = loop.scheduler.decoding.step
        if loop.batch is None:
            cache.tell(step, 0)
        elif loop.batch.chunks:
            cache.tell(step, 1)
        else:
            cache.tell(step + self._steps_ended(number), 1)
