"""What a prefix cache of several groups is made with."""

from collections.abc import Callable

from sim.engine.caches.texts import Spans


class HybridSettings:
    """What releases of vLLM do differently, and what can be set.

    Args:
        spans_of: the streams of a request's text, and behind which of its tokens each ends.
        unhashed_first: whether free blocks that cannot be found are taken before all others.
        windows_first: the same of blocks of windows, and of chunks while a request runs.
        ahead: whether steps are planned while the one before is computed.
        retention: ``prefix_cache_retention_interval``; ``DENSE``: null.
        whole_hits: whether only what a hit can end at is named (0.23 on).
        twice: see ``Kept``.
        at_end: see ``Searcher``.
    """

    def __init__(
        self,
        spans_of: Callable[[int], Spans] | None,
        unhashed_first: bool,
        windows_first: bool,
        ahead: bool,
        retention: int,
        whole_hits: bool,
        twice: bool = False,
        at_end: bool = True,
    ) -> None:
        self.spans_of = spans_of
        self.unhashed_first, self.windows_first = unhashed_first, windows_first
        self.ahead = ahead
        self.retention, self.whole_hits = retention, whole_hits
        self.twice, self.at_end = twice, at_end


def least_common(sizes: list[int]) -> int:
    """The least common multiple."""
    least = 1
    for size in sizes:
        multiple = least
        while multiple % size:
            multiple += least
        least = multiple
    return least
