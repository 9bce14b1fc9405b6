"""How prompts begin: streams of text, and where they end in each."""


class Beginnings:
    """Those of a workload, by rows: see ``workloads.requests.Prefixes``, whose columns they are.

    Args:
        offsets: of each row its first place; and the end of all.
        streams: of each place.
        ends: of each place, tokens.
        unit: tokens in which ends are counted, as far as they are whole: 1, or those of a block.
    """

    def __init__(
        self, offsets: memoryview, streams: memoryview, ends: memoryview, unit: int = 1
    ) -> None:
        self._offsets, self._streams, self._ends = offsets, streams, ends
        self._unit = unit

    def of(self, request: int) -> list[tuple[int, int]]:
        """Return the streams of a request, and where each of them ends."""
        found: list[tuple[int, int]] = []
        unit = self._unit
        for place in range(self._offsets[request], self._offsets[request + 1]):
            found.append((self._streams[place], self._ends[place] // unit))
        return found
