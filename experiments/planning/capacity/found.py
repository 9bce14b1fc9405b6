"""What a search for a highest value looks at, and what it finds."""

import math
from typing import Literal, Protocol

from experiments.planning.logit_line import Root
from experiments.study.document import Study
from model.dataclass import dataclass

Outcome = Literal["found", "never", "capacity", "unbounded", "undecided", "not harder"]
"""found: a root; never: nothing keeps it; capacity: only the capacity ends it; unbounded: nothing
that was tried misses it; undecided: the share does not grow there; not harder: more of the key does
not bring requests nearer to their limits, so that it has no highest value."""


class Variable(Protocol):
    """What is searched: a study with one number in it."""

    @property
    def point(self) -> Study:
        """The study as it is; its seed counts."""

    @property
    def key(self) -> str:
        """What messages call the number."""

    @property
    def value(self) -> float:
        """What it is."""

    @property
    def is_whole(self) -> bool:
        """Whether it counts something."""

    @property
    def draw(self) -> int | None:
        """Which of the drawn calibrations prices its runs."""

    def at(self, value: float) -> Study:
        """The settled study with another value, long enough to be measured."""


@dataclass(frozen=True, slots=True)
class Highest:
    """What a search found."""

    outcome: Outcome
    value: float
    low: float = math.nan
    high: float = math.nan
    seeds: int = 1
    root: Root | None = None
    binds: str = ""
    """The limit that most of the missed requests miss, as in the SLO."""
    binds_share: float = math.nan
    tried: tuple[tuple[float, float], ...] = ()
    """Value and missed share of the localising seed, ascending."""
    pair: tuple[tuple[float, float], ...] = ()
    """The same of the two values around the root, all seeds together."""
    refused: str = ""
    """Why no higher value was tried; empty where none was refused."""
    strains: tuple[tuple[float, float], ...] = ()
    """Value and mean strain (``Sample.strain``) of the same seed, ascending."""
