"""Texts as routers cut them: blocks of the streams that prompts begin with.

A prompt is ``[(stream, tokens), ...]``: behind which of its tokens each of its streams ends, as in
``workloads.prefixes``. Cut to blocks, it is a list of stretches; what no other prompt can begin
with is one of nobody's stream.
"""

from typing import Final

Text = list[tuple[int, int]]
"""Streams, and behind which of its tokens each of them ends."""
Stretch = tuple[int, int, int]
"""A stream, its first block here, and the one behind the last."""

PRIVATE: Final = -1
"""Stream of what one request alone has."""
_ENDS: Final = 1 << 24


def stretches(text: Text, tokens: int, size: int, most: int) -> list[Stretch]:
    """Return the full blocks of the first ``tokens`` tokens, at most so many."""
    found: list[Stretch] = []
    have, full = 0, min(tokens // size, most)
    for stream, end in text:
        stop = min(end // size, full)
        if have < stop:
            found.append((stream, have, stop))
            have = stop
    if have < full:
        found.append((PRIVATE, have, full))
    return found


def with_rest(found: list[Stretch], text: Text, tokens: int, size: int, most: int) -> list[Stretch]:
    """Return the same with the last block that is not full, if it is within ``most``.

    It is known by where it ends: only a prompt that ends there too has the same. A prompt that is
    shorter than a block has none.
    """
    full = tokens // size
    if not full or full >= most or full * size == tokens:
        return found
    for stream, end in text:
        if end >= tokens:
            return [*found, (-2 - stream * _ENDS - tokens, full, full + 1)]
    return [*found, (PRIVATE, full, full + 1)]


def blocks(found: list[Stretch]) -> int:
    """Count the blocks of stretches that follow each other."""
    return found[-1][2] if found else 0
