"""Tokens on their way out of an engine: one event loop that streams a step after the other.

See ``sim.api_server``, which says what it stands for.
"""

from array import array
from struct import Struct

from mypy_extensions import mypyc_attr

from sim.engine.journal import SEGMENT_BYTES, STREAMS_AT, Journal

_STREAMS = Struct("=2i8xi")
"""Of a segment: steps, decodes, joined."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Outbox:
    """When the tokens of each step of one engine are seen, seconds.

    Args:
        each_s: the event loop's time for one token, as it is shared among processes.
    """

    def __init__(self, each_s: float) -> None:
        self.each_s = each_s
        self.free_s = 0.0
        """When all tokens so far have been sent."""
        self.seen_s = array("d")
        """Of steps that are in the journal still."""
        self.rows = 0
        """Of its segments."""

    def last_seen_s(self, journal: Journal) -> float:
        """Return when the tokens of the last complete step of a journal are seen."""
        segments, streams, steps = journal.segments, list[int](), list[int]()
        for at in range(self.rows * SEGMENT_BYTES, len(segments), SEGMENT_BYTES):
            count, decodes, joined = _STREAMS.unpack_from(segments, at + STREAMS_AT)
            steps.append(int(count))
            streams.append(int(decodes) + int(joined))
        self.add(streams, steps, journal.step_end_s[len(self.seen_s) : journal.steps].tolist())
        return self.seen_s[-1]

    def add(self, streams: list[int], steps: list[int], ends_s: list[float]) -> None:
        """Add segments: the streams of each, its steps, and the ends of all steps."""
        free_s, each_s, seen_s = self.free_s, self.each_s, list[float]()
        end = 0
        for place, count in enumerate(streams):
            work_s = count * each_s
            start, end = end, end + steps[place]
            for begun_s in ends_s[start:end]:
                if begun_s < free_s:
                    begun_s = free_s
                seen_s.append(begun_s + work_s / 2)
                free_s = begun_s + work_s
        self.free_s = free_s
        self.seen_s.extend(seen_s)
        self.rows += len(streams)
