"""Which chunks of a full tier make room: vLLM's ``eviction_policy`` lru and arc, as since 0.31.

A request's use of its chunks counts once, when it has ended: from the last of its prompt to the
first, so that beginnings stay longest. Whatever is read or written stays.
"""

from heapq import heapify, heappop, heappush

from sim.engine.tiers.chunk_list import Chunk, ChunkList, moved_to


class Eviction:
    """Keeps the chunks of a tier in order. Base of the policies.

    Args:
        capacity: chunks of the tier.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.chunks: dict[int, Chunk] = {}
        """By key."""

    def insert(self, key: int, rank: int = 0, place: int = 0) -> Chunk:
        """Add a chunk that is being written, of a request with a rank, which has it at a place."""
        raise NotImplementedError

    def seen(self, keys: list[int], places: list[int], rank: int) -> int:
        """A request sees these for the first time, here or not; return its rank (0: none yet)."""
        return rank

    def missed(self, key: int) -> None:
        """One is about to be written that is not here: told once for each request."""

    def used(self, key: int, reused: bool, inserted: bool) -> None:
        """A request has ended that saw this chunk: it found it here, or brought it here."""
        raise NotImplementedError

    def victims(self, count: int, offer: int) -> list[Chunk] | None:
        """Return who makes room, none of which is of this offer or in use; None: too few."""
        raise NotImplementedError

    def remove(self, chunk: Chunk) -> None:
        """One of them makes room."""
        raise NotImplementedError


def _stays(chunk: Chunk, offer: int) -> bool:
    return chunk.readers != 0 or chunk.offer == offer


class Lru(Eviction):
    """The chunk that was used longest ago."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._line = ChunkList()

    def insert(self, key: int, rank: int = 0, place: int = 0) -> Chunk:
        """See ``Eviction``."""
        self.chunks[key] = chunk = Chunk(key)
        self._line.append(chunk)
        return chunk

    def used(self, key: int, reused: bool, inserted: bool) -> None:
        """See ``Eviction``."""
        chunk = self.chunks.get(key)
        if chunk is not None:
            moved_to(chunk, self._line)

    def victims(self, count: int, offer: int) -> list[Chunk] | None:
        """See ``Eviction``."""
        found: list[Chunk] = []
        chunk = self._line.following(None)
        while chunk is not None and len(found) < count:
            if not _stays(chunk, offer):
                found.append(chunk)
            chunk = self._line.following(chunk)
        return found if len(found) == count else None

    def remove(self, chunk: Chunk) -> None:
        """See ``Eviction``."""
        self._line.remove(chunk)
        del self.chunks[chunk.key]


class RankedLru(Eviction):
    """The same, where what a request sees counts at once, as of the time when it saw its first one.

    All of that has one rank, and the last of the prompt make room before the first (vLLM 0.33 on).
    Once the request has ended its chunks are used one by one, as those of ``Lru``.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._last = 0
        self._ranks: dict[int, tuple[int, int]] = {}
        self._line: list[tuple[int, int, int]] = []  # rank and key; those that are past stay
        heapify(self._line)

    def insert(self, key: int, rank: int = 0, place: int = 0) -> Chunk:
        """See ``Eviction``."""
        self.chunks[key] = chunk = Chunk(key)
        self._rank(key, rank, -place)
        return chunk

    def seen(self, keys: list[int], places: list[int], rank: int) -> int:
        """See ``Eviction``."""
        if not rank:
            self._last += 1
            rank = self._last
        for at, key in enumerate(keys):
            if key in self.chunks and self._ranks[key] < (rank, -places[at]):
                self._rank(key, rank, -places[at])
        return rank

    def used(self, key: int, reused: bool, inserted: bool) -> None:
        """See ``Eviction``."""
        if key in self.chunks:
            self._last += 1
            self._rank(key, self._last, 0)

    def victims(self, count: int, offer: int) -> list[Chunk] | None:
        """See ``Eviction``."""
        found: list[Chunk] = []
        passed: list[tuple[int, int, int]] = []
        line = self._line
        while line and len(found) < count:
            entry = heappop(line)
            first, then, key = entry
            if self._ranks.get(key, (-1, 0)) != (first, then):
                continue
            if passed and passed[-1] == entry:
                continue  # it was here before, at the same rank
            passed.append(entry)
            chunk = self.chunks[key]
            if not _stays(chunk, offer):
                found.append(chunk)
        for entry in passed:
            heappush(line, entry)
        return found if len(found) == count else None

    def remove(self, chunk: Chunk) -> None:
        """See ``Eviction``."""
        del self.chunks[chunk.key], self._ranks[chunk.key]

    def _rank(self, key: int, first: int, then: int) -> None:
        self._ranks[key] = (first, then)
        heappush(self._line, (first, then, key))
        if len(self._line) > 64 + 2 * len(self.chunks):
            self._line = [(*rank, each) for each, rank in self._ranks.items()]
            heapify(self._line)


class Arc(Eviction):
    """Adaptive replacement (Megiddo and Modha, FAST 2003), as vLLM has it.

    What was used once and what was used again lie in two lists; a target for the first adapts to
    which of them would have had what was evicted from it lately.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.target = 0.0
        self._once = ChunkList()
        self._again = ChunkList()
        self._gone: dict[int, Chunk] = {}
        self._gone_once = ChunkList()
        self._gone_again = ChunkList()

    def insert(self, key: int, rank: int = 0, place: int = 0) -> Chunk:
        """See ``Eviction``."""
        ghost = self._gone.pop(key, None)
        if ghost is not None and ghost.where is not None:
            ghost.where.remove(ghost)
        self.chunks[key] = chunk = Chunk(key)
        self._once.append(chunk)
        return chunk

    def missed(self, key: int) -> None:
        """See ``Eviction``."""
        ghost = self._gone.get(key)
        if ghost is None or ghost.where is None:
            return
        once, again = self._gone_once, self._gone_again
        if ghost.where is once:
            self.target = min(self.target + max(1.0, again.count / once.count), self.capacity)
        else:
            self.target = max(self.target - max(1.0, once.count / again.count), 0.0)
        moved_to(ghost, ghost.where)

    def used(self, key: int, reused: bool, inserted: bool) -> None:
        """See ``Eviction``."""
        chunk = self.chunks.get(key)
        if chunk is None or chunk.where is None:
            return
        if reused:
            moved_to(chunk, self._again)
        elif inserted:
            moved_to(chunk, chunk.where)

    def victims(self, count: int, offer: int) -> list[Chunk] | None:
        """See ``Eviction``."""
        found: list[Chunk] = []
        once, again, left = (
            self._once.following(None),
            self._again.following(None),
            self._once.count,
        )
        target = int(self.target)
        for _ in range(count):
            if left >= target:
                once = self._next(self._once, once, offer)
                if once is not None:
                    found.append(once)
                    once = self._once.following(once)
                    left -= 1
                    continue
            again = self._next(self._again, again, offer)
            if again is not None:
                found.append(again)
                again = self._again.following(again)
                continue
            once = self._next(self._once, once, offer)
            if once is None:
                return None
            found.append(once)
            once = self._once.following(once)
            left -= 1
        return found

    def _next(self, line: ChunkList, chunk: Chunk | None, offer: int) -> Chunk | None:
        while chunk is not None and _stays(chunk, offer):
            chunk = line.following(chunk)
        return chunk

    def remove(self, chunk: Chunk) -> None:
        """See ``Eviction``: it is remembered for a while."""
        del self.chunks[chunk.key]
        gone = self._gone_once if chunk.where is self._once else self._gone_again
        moved_to(chunk, gone)
        self._gone[chunk.key] = chunk
        while gone.count > self.capacity:
            first = gone.following(None)
            assert first is not None
            gone.remove(first)
            del self._gone[first.key]
