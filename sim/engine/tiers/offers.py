"""How often chunks were offered to a second tier, of as many as are remembered."""

from sim.engine.tiers.chunk_list import Chunk, ChunkList, moved_to


class OfferCounts:
    """At most ``most`` chunks; the one that was offered longest ago is forgotten first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._line = ChunkList()
        self._known: dict[int, Chunk] = {}

    def offered(self, keys: list[int]) -> None:
        """Count an offer; none of it is forgotten for another part of it."""
        known, line = self._known, self._line
        fresh: list[int] = []
        for key in keys:
            chunk = known.get(key)
            if chunk is None:
                fresh.append(key)
            else:
                chunk.readers += 1
                moved_to(chunk, line)
        others = line.count - (len(keys) - len(fresh))
        for key in fresh:
            if line.count >= self.most:
                if not others:
                    continue
                first = line.following(None)
                assert first is not None
                line.remove(first)
                del known[first.key]
                others -= 1
            known[key] = chunk = Chunk(key)
            chunk.readers = 1
            line.append(chunk)

    def of(self, key: int) -> int:
        """Return how often one was offered, as far as it is remembered."""
        chunk = self._known.get(key)
        return 0 if chunk is None else chunk.readers
