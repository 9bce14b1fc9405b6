"""Tokens on their way out of an engine: one event loop that streams a step after the other.

See ``sim.api_server``, which says what it stands for.
"""

from struct import Struct
from typing import Final

from sim.engine.journal import SEGMENT_BYTES, STREAMS_AT, Journal

MOST_ROWS: Final = 16
"""So many segments are read at once."""
_STREAMS: Final = [
    Struct(f"{STREAMS_AT}x2i8xi{SEGMENT_BYTES - STREAMS_AT - 20}x" * rows).unpack_from
    for rows in range(MOST_ROWS + 1)
]
"""Of so many segments: steps, decodes, joined."""


def streams_from(journal: Journal, row: int) -> tuple[list[int], list[int]]:
    """Return the streams of each segment of a journal from a row on, and its steps."""
    segments, streams, steps = journal.segments, list[int](), list[int]()
    end = len(segments) // SEGMENT_BYTES
    while row < end:
        rows = min(end - row, MOST_ROWS)
        found: tuple[int, ...] = _STREAMS[rows](segments, row * SEGMENT_BYTES)
        for at in range(0, 3 * rows, 3):
            steps.append(found[at])
            streams.append(found[at + 1] + found[at + 2])
        row += rows
    return streams, steps


class Outbox:
    """When the tokens of the steps of one engine are seen, seconds.

    Args:
        each_s: the event loop's time for one token, as it is shared among processes.
    """

    def __init__(self, each_s: float) -> None:
        self.each_s = each_s
        self.free_s = 0.0
        """When all tokens so far have been sent."""
        self.taken_free_s = 0.0
        """The same, of steps that have left the journal."""
        self.streams: list[int] = []
        """Of the segments so far that are in the journal still."""
        self.steps = 0
        """Of these segments."""
        self.last_s = 0.0
        """When the tokens of the last of them are seen."""
        self.calm_s = 0.0
        """Where sending a step takes less than this, it is over before the next step ends."""

    def last_seen_s(self, journal: Journal) -> float:
        """Return when the tokens of the last complete step of a journal are seen."""
        free_s, begun_s, work_s, end = self.free_s, 0.0, 0.0, self.steps
        ends_s = journal.step_end_s
        streams, steps = streams_from(journal, len(self.streams))
        for place, count in enumerate(streams):
            work_s = count * self.each_s
            at, end = end, end + steps[place]
            while at < end:
                begun_s = ends_s[at]
                if begun_s < free_s:
                    begun_s = free_s
                elif work_s < self.calm_s:  # nor does any behind it wait
                    begun_s, at = ends_s[end - 1], end
                free_s = begun_s + work_s
                at += 1
        if streams:
            self.last_s = begun_s + work_s / 2
        self.streams += streams
        self.free_s, self.steps = free_s, journal.steps
        return self.last_s

    def take(self, rows: int, steps: int) -> list[int]:
        """Segments leave the journal, its first ones; return the streams of those known here."""
        known = self.streams[:rows]
        del self.streams[:rows]
        self.steps = max(0, self.steps - steps)
        return known

    def seen_s(self, streams: list[int], steps: list[int], ends_s: list[float]) -> list[float]:
        """Return when the steps of segments are seen that leave the journal: of the streams of
        each, its steps, and the ends of all steps."""
        free_s, seen_s, end = self.taken_free_s, list[float](), 0
        for place, count in enumerate(streams):
            work_s = count * self.each_s
            start, end = end, end + steps[place]
            for at in range(start, end):
                begun_s = ends_s[at]
                if begun_s < free_s:
                    begun_s = free_s
                seen_s.append(begun_s + work_s / 2)
                free_s = begun_s + work_s
        self.taken_free_s = free_s
        return seen_s
