"""What the figures of a point rest on, beside the table of its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experiments.reporting.support import Load

if TYPE_CHECKING:
    from hardware.calibration import Calibration


@dataclass(frozen=True, slots=True)
class Pool:
    """Percentiles of all measured requests of all runs of a point together, by metric."""

    values: Mapping[str, float]
    batches: Mapping[str, list[float]] = field(default_factory=dict)
    """Of one run alone: the same of consecutive parts of it, in place of seeds."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What is known of one point; each part may be missing."""

    calibration: "Calibration | None" = None
    pool: Pool | None = None
    load: Load | None = None
    offered: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """By a rate that is served: the metric of what came of it in each run, and its expectation."""
