"""The steps of a run, one block after the other, so that measuring holds one block at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.recording.result import Result
from sim.recording.tape import Column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEGMENTS = 1 << 14
"""Most segments of a block."""
STEPS = 1 << 18
"""Steps from which on a block ends, too."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive segments of one replica."""

    replica: int
    begins: bool
    """The first of its replica."""
    segments: dict[str, Column]
    """``SEGMENT_COLUMNS``, one row per segment."""
    step_end_s: Floats
    """End of each of the segments' steps."""
    seen_s: Floats
    """When clients see the tokens of each of them."""
    returned_step: Ints
    """Of these steps, the ones in which a sequence decoded again that had been held back."""

    def ints(self, name: str) -> Ints:
        """A column of counts, wide enough to calculate with."""
        return np.asarray(self.segments[name], dtype=np.int64)

    def query_rows(self) -> Ints:
        """Rows of those who decode, padding included: one of each, and one per draft."""
        if "rows" in self.segments:
            return self.ints("rows")
        return self.ints("decodes") + self.ints("padding")

    def gained(self) -> Ints:
        """Tokens that each step gave by decoding."""
        return self.ints("gained" if "gained" in self.segments else "decodes")

    def floats(self, name: str) -> Floats:
        """A column of times, or of counts to be weighted with times."""
        return np.asarray(self.segments[name], dtype=np.float64)


def blocks(result: Result) -> Iterator[Block]:
    """Read a run block by block; where blocks end depends on the run alone."""
    columns, rows = result.segments, len(result.segments["steps"])
    returned = result.returned_step
    row = step = 0
    before = None
    while row < rows:
        until = min(row + SEGMENTS, rows)
        replica = np.asarray(columns["replica"][row:until])
        ends = np.cumsum(columns["steps"][row:until], dtype=np.int64)
        alike = int(np.argmax(np.append(replica[1:] != replica[:-1], True))) + 1
        count = min(alike, int(np.searchsorted(ends, STEPS)) + 1)
        steps = int(ends[count - 1])
        end_s = np.asarray(result.step_end_s[step : step + steps], dtype=np.float64)
        seen = result.seen_s
        yield Block(
            int(replica[0]),
            replica[0] != before,
            {name: column[row : row + count] for name, column in columns.items()},
            end_s,
            end_s if seen is None else np.asarray(seen[step : step + steps], dtype=np.float64),
            returned[slice(*np.searchsorted(returned, (step, step + steps)))] - step,
        )
        before, row, step = replica[0], row + count, step + steps
