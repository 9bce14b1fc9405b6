"""Chunks of KV in a second tier, and lists of them in order of use."""

from typing import Final

PENDING: Final = -1
"""Readers of a chunk that is still being written."""


class Chunk:
    """Some blocks of one text, as one piece."""

    __slots__ = ("after", "before", "key", "offer", "readers", "where", "writer")

    def __init__(self, key: int) -> None:
        self.key = key
        self.readers = PENDING
        """Transfers that read it now."""
        self.offer = 0
        """The last offer that named it."""
        self.writer = -1
        """In a shared store, the replica that wrote it."""
        self.where: ChunkList | None = None
        self.before: Chunk | None = None
        self.after: Chunk | None = None


class ChunkList:
    """The chunk that was used last is the last."""

    def __init__(self) -> None:
        self.count = 0
        self._ends = Chunk(0)  # closes the ring
        self._ends.before = self._ends.after = self._ends

    def append(self, chunk: Chunk) -> None:
        """Add one that is in no list."""
        ends = self._ends
        last = ends.before
        assert last is not None
        chunk.before, chunk.after, chunk.where = last, ends, self
        last.after = ends.before = chunk
        self.count += 1

    def remove(self, chunk: Chunk) -> None:
        """Take one out."""
        before, after = chunk.before, chunk.after
        assert before is not None
        assert after is not None
        before.after, after.before = after, before
        chunk.before = chunk.after = chunk.where = None
        self.count -= 1

    def following(self, chunk: Chunk | None) -> Chunk | None:
        """Return who comes behind one (None: the first); None at the end."""
        after = (self._ends if chunk is None else chunk).after
        return None if after is self._ends else after


def moved_to(chunk: Chunk, other: ChunkList) -> None:
    """Let one be the last of a list, wherever it was."""
    if chunk.where is not None:
        chunk.where.remove(chunk)
    other.append(chunk)
