"""How far a run has come, for whoever waits for it: a small file beside its piece while it runs."""

import math
import time
from pathlib import Path

import numpy as np

from model.dataclass import dataclass
from sim.recording.tape import Column, Piece, Scratch
from workloads.requests import Requests

SUFFIX = ".reached"
PAUSE_S = 0.3
"""Between two notes."""


class Reached(Scratch):
    """Keeps columns like any scratch, and notes the latest simulated time among them."""

    def __init__(self, piece: Path, requests: Requests) -> None:
        super().__init__(piece.parent)
        self._path = piece.with_suffix(SUFFIX)
        self._last_s = math.nan if requests.waits else float(requests.arrival_s[-1])
        self._reached_s = 0.0
        self._noted_s = time.monotonic()
        self._noted = False

    def keep(self, values: Column) -> Piece:
        """Write a column down, and how far its times reach."""
        if values.dtype == np.float64 and len(values):
            self._reached_s = max(self._reached_s, float(values[-1]))
            if time.monotonic() - self._noted_s > PAUSE_S:
                self._noted_s, self._noted = time.monotonic(), True
                self._path.write_text(f"{self._reached_s} {self._last_s}", encoding="ascii")
        return super().keep(values)

    def forget(self) -> None:
        """Remove the note."""
        if self._noted:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is."""

    reached_s: float
    last_s: float
    """Last arrival; NaN where users decide it."""

    @property
    def share(self) -> float:
        """Share of the run that is done, about; 0 where that is not known."""
        return min(1.0, self.reached_s / self.last_s) if self.last_s > 0 else 0.0


def places(folder: Path) -> list[Place]:
    """Return where the runs are that are noted in a folder."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            reached, last = path.read_text(encoding="ascii").split()
            found.append(Place(float(reached), float(last)))
        except (OSError, ValueError):  # it has just ended, or is being written
            continue
    return found
