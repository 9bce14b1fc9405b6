"""What the figures of a point rest on, beside the table of its runs."""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from experiments.reporting.quantities import significant
from experiments.reporting.support import Load
from model.dataclass import dataclass
from sim.measuring.slo import Slo

if TYPE_CHECKING:
    from hardware.calibration import Calibration


@dataclass(frozen=True, slots=True)
class Pooled:
    """Percentiles of all measured requests of all runs of a point together, by metric."""

    values: Mapping[str, float]
    batches: Mapping[str, list[float]] = field(default_factory=dict)
    """Of one run alone: the same of consecutive parts of it, in place of seeds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The precision that a study asks for, and the length that was fixed for it."""

    target: float
    metrics: tuple[str, ...]
    requests: int
    """Of all seeds together."""
    need: int
    """How many it would have taken; more than ``requests`` where these are limited."""
    required: Mapping[str, float]
    """What the slo asks of shares."""

    def wanted(self, metric: str) -> float:
        """Half-width that a figure may have: of a share in points, else over the figure."""
        if metric in self.required:
            return (1 - self.required[metric]) / 4 or 0.0025
        return self.target

    def half_width(self, row: Mapping[str, Any], metric: str) -> float:
        """Half-width that a figure of the summary has; NaN without an interval."""
        if metric not in row:
            return math.nan
        value, low, high = (
            float(row.get(f"{metric}{end}", math.nan)) for end in ("", "_lo", "_hi")
        )
        if metric in self.required:
            return (high - low) / 2
        return (high - low) / 2 / value if value > 0 else math.nan

    def note(self, row: Mapping[str, Any]) -> str:
        """Say which figures are less exact than was asked, and what would do; nothing if none is.

        The length is fixed from an estimate, so half of all figures come out a little above what
        was asked: those are not spoken of.
        """
        short = {m: self.half_width(row, m) for m in self.metrics}
        short = {m: half for m, half in short.items() if half > 1.3 * self.wanted(m)}
        if self.need <= self.requests:
            if not short:
                return ""
            each = ", ".join(
                f"{name} ±{100 * half:.2g}{' points' if name in self.required else '%'}"
                for name, half in short.items()
            )
            return f"asked ±{self.target:.0%}, came out {each}"
        return (
            f"asked ±{self.target:.0%}: not reached at {self.requests:,} requests "
            f"(precision.max_requests), about {significant(self.need, 2)} would do"
        )


@dataclass(frozen=True, slots=True)
class Basis:
    """What is known of one point; each part may be missing."""

    calibration: "Calibration | None" = None
    pool: Pooled | None = None
    load: Load | None = None
    offered: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """By a rate that is served: the metric of what came of it in each run, and its expectation."""
    asked: Asked | None = None
    slo: Slo | None = None
    exact: bool = False
    """Nothing is random: another seed would show the same."""
    pilot: bool = False
    """Of a pilot: percentiles have intervals, however little they rest on."""
    alike: int = 1
    """Replicas that are alike, among which one router chooses."""
