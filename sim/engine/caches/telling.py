"""Whose answers go on with texts that others may look for."""

from sim.engine.caches.homes import Homes
from sim.engine.sequence import Sequence


class Telling:
    """The streams of a cache that running requests go on with, beyond their prompts."""

    def __init__(self) -> None:
        self._streams: dict[Sequence, list[int]] = {}
        self._counts: dict[int, int] = {}

    def begin(self, sequence: Sequence, block_size: int, homes: Homes | None, number: int) -> None:
        """One runs, on the replica of this number, where ``homes`` are told."""
        counts = self._counts
        found: list[int] = []
        for stream, end in sequence.spans:
            if end * block_size > sequence.prompt_tokens:
                found.append(stream)
                counts[stream] = counts.get(stream, 0) + 1
                if homes is not None:
                    homes.tell(stream, number)
        self._streams[sequence] = found

    def end(self, sequence: Sequence, homes: Homes | None, number: int) -> None:
        """It runs no longer."""
        counts = self._counts
        streams = self._streams[sequence]
        del self._streams[sequence]
        for stream in streams:
            count = counts[stream] - 1
            if count:
                counts[stream] = count
            else:
                del counts[stream]
            if homes is not None:
                homes.told_to_end(stream, number)

    def concerns(self, sequence: Sequence) -> bool:
        """Whether somebody else goes on with a text of this one."""
        counts = self._counts
        if not counts:
            return False
        own = self._streams.get(sequence)
        for stream, _ in sequence.spans:
            others = counts.get(stream, 0)
            if own is not None and stream in own:
                others -= 1
            if others:
                return True
        return False


def apart(ready: list[tuple[Sequence, int]]) -> bool:
    """Whether no two of these have a text in common that they go on with.

    ``ready`` has for each sequence how many of its blocks are full.
    """
    streams: set[int] = set()
    for sequence, _ in ready:
        spans = sequence.spans
        if len(spans) > 1 and sequence.named_blocks < spans[-2][1]:
            return len(ready) == 1
        streams.add(spans[-1][0])
    return len(streams) == len(ready)
