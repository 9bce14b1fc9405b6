"""Names of the chunks of a request's text: two requests whose texts begin alike share them."""

from typing import Final

from sim.engine.caches.held import own_stream
from sim.engine.sequence import Sequence

_PLACES: Final = 1 << 24  # more chunks than a text has
NEVER: Final = 1 << 60
"""Behind every block."""


def name_chunks(sequence: Sequence, keys: list[int], blocks: int, count: int) -> None:
    """Add names until there are ``count``: of chunks of so many blocks, in order."""
    if len(keys) >= count:
        return
    for stream, stop in [*sequence.spans, (own_stream(sequence), NEVER)]:
        last = min(stop // blocks, count)
        for place in range(len(keys), last):
            keys.append(stream * _PLACES + place)
