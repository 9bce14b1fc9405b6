"""The steps of a run, one block after the other, so that measuring holds one block at a time.

Of a block only those columns are read that somebody asks for: many look at segments alone, of which
there are far fewer than steps.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from model.same import Same
from sim.recording.result import Result
from sim.recording.tape import Column, Tape

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEGMENTS = 1 << 14
"""Most segments of a block."""
STEPS = 1 << 18
"""Steps from which on a block ends, too."""


class Rows(Mapping[str, Column]):
    """Some rows of a table; a column of it is read when it is asked for."""

    def __init__(self, table: Mapping[str, Column | Tape], rows: slice) -> None:
        self._table, self._rows = table, rows
        self._read: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._read:
            self._read[name] = np.asarray(self._table[name][self._rows])
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class Block:
    """Consecutive segments of one replica.

    Args:
        result: of the run.
        replica: whose they are.
        begins: whether they are the first of it.
        rows: of the segment table.
        steps: rows of its ends of steps.
    """

    def __init__(
        self, result: Result, replica: int, begins: bool, rows: slice, steps: slice
    ) -> None:
        self.replica, self.begins = replica, begins
        self.segments = Rows(result.segments, rows)
        """``SEGMENT_COLUMNS``, one row per segment."""
        returned = result.returned_step
        own = slice(*np.searchsorted(returned, (steps.start, steps.stop)))
        self.returned_step: Ints = returned[own] - steps.start
        """Of these steps, the ones in which a sequence decoded again that had been held back."""
        self._result, self._steps = result, steps
        self._wide: dict[str, Ints] = {}

    @cached_property
    def step_end_s(self) -> Floats:
        """End of each of the segments' steps: shape (steps,), seconds."""
        return np.asarray(self._result.step_end_s[self._steps], dtype=np.float64)

    @cached_property
    def seen_s(self) -> Floats:
        """When clients see the tokens of each of them: shape (steps,), seconds."""
        seen = self._result.seen_s
        if seen is None:
            return self.step_end_s
        return np.asarray(seen[self._steps], dtype=np.float64)

    def steps_within(self, start_s: float, stop_s: float) -> Ints:
        """How many steps of each segment ended in ``(start_s, stop_s]``: shape (segments,)."""
        steps = self.ints("steps")
        if self.segments["start_s"].min() > start_s and self.segments["end_s"].max() <= stop_s:
            return steps
        inside = (self.step_end_s > start_s) & (self.step_end_s <= stop_s)
        return np.add.reduceat(inside, np.cumsum(steps) - steps, dtype=np.int64)

    def ints(self, name: str) -> Ints:
        """A column of counts, wide enough to calculate with, for reading: shape (segments,)."""
        if name not in self._wide:
            self._wide[name] = np.asarray(self.segments[name], dtype=np.int64)
        return self._wide[name]

    def query_rows(self) -> Ints:
        """Rows of those who decode, one of each and one per draft, with padding: (segments,)."""
        if "rows" in self.segments:
            return self.ints("rows")
        return self.ints("decodes") + self.ints("padding")

    def gained(self) -> Ints:
        """Tokens that each step of a segment gave by decoding: shape (segments,)."""
        return self.ints("gained" if "gained" in self.segments else "decodes")

    def floats(self, name: str) -> Floats:
        """A column of times in seconds, or of counts to be weighted with them: (segments,)."""
        return np.asarray(self.segments[name], dtype=np.float64)


def blocks(result: Result) -> Iterator[Block]:
    """Read a run block by block; where blocks end depends on the run alone.

    Blocks of a short run, and what was read of them, are kept for who asks next: half a dozen do.
    """
    rows, ends_s = len(result.segments["steps"]), result.step_end_s
    short = isinstance(ends_s, np.ndarray) and len(ends_s) <= STEPS and rows <= SEGMENTS
    return iter(_kept(Same(result))) if short else _read(result)


@lru_cache(maxsize=1)
def _kept(result: Same[Result]) -> tuple[Block, ...]:
    return tuple(_read(result.value))


def _read(result: Result) -> Iterator[Block]:
    columns, rows = result.segments, len(result.segments["steps"])
    row = step = 0
    before = None
    while row < rows:
        until = min(row + SEGMENTS, rows)
        replica = np.asarray(columns["replica"][row:until])
        ends = np.cumsum(columns["steps"][row:until], dtype=np.int64)
        alike = int(np.argmax(np.append(replica[1:] != replica[:-1], True))) + 1
        count = min(alike, int(np.searchsorted(ends, STEPS)) + 1)
        steps = int(ends[count - 1])
        end = step + steps
        yield Block(
            result,
            int(replica[0]),
            bool(replica[0] != before),
            slice(row, row + count),
            slice(step, end),
        )
        before, row, step = replica[0], row + count, end
