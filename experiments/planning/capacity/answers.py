"""What was found at each point of a capacity study, and the tables of it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.study import CapacityPlan
from experiments.planning.sequential import Verdict
from experiments.planning.smallest import Smallest
from experiments.study.points import Point
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found at one point."""

    point: Point
    found: Highest | Smallest
    capacity: float
    """Of the point, in the unit of the key; NaN where there is none to compare with."""
    usd_per_hour: float
    """NaN where it is not priced; at the number of replicas that was found, where it was."""

    @property
    def is_kept(self) -> bool:
        """Whether some value keeps the SLO; not where that cannot be told."""
        if isinstance(self.found, Highest):
            return self.found.outcome not in ("never", "undecided", "not harder")
        return self.found.replicas is not None


def capacity_table(plan: CapacityPlan, answers: Sequence[Answer]) -> "DataFrame":
    """Return one row per point: the swept keys, the value with its interval, and why it ends."""
    import pandas as pd

    rows = []
    for one in answers:
        row: dict[str, Any] = {"point": one.point.number, **one.point.values}
        row |= _smallest_row(one) if isinstance(one.found, Smallest) else _highest_row(one)
        rows.append(row | {"usd_per_hour": one.usd_per_hour})
    return pd.DataFrame(rows)


def _highest_row(one: Answer) -> dict[str, Any]:
    found = one.found
    assert isinstance(found, Highest)
    below, above = (*found.pair, (math.nan, math.nan), (math.nan, math.nan))[:2]
    return {
        "outcome": found.outcome, "value": found.value, "value_lo": found.low,
        "value_hi": found.high, "capacity": one.capacity,
        "share_of_capacity": found.value / one.capacity,
        "binds": found.binds, "share_of_misses": found.binds_share,
        "below": below[0], "missed_below": below[1], "above": above[0], "missed_above": above[1],
        "seeds": found.seeds,
    }  # fmt: skip


def _smallest_row(one: Answer) -> dict[str, Any]:
    found = one.found
    assert isinstance(found, Smallest)
    replicas = math.nan if found.replicas is None else found.replicas
    fewer = found.probes.get(0 if found.replicas is None else found.replicas - 1)
    kept = None if found.replicas is None else found.probes[found.replicas]
    undecided = fewer is not None and fewer.verdict is Verdict.UNDECIDED
    return {
        "outcome": "never" if found.replicas is None else "found", "value": replicas,
        "missed": math.nan if kept is None else kept.missed,
        "missed_with_one_fewer": math.nan if fewer is None else fewer.missed,
        "one_fewer": "" if fewer is None else fewer.verdict.value,
        "undecided": undecided,
    }  # fmt: skip


def probes_table(answers: Sequence[Answer]) -> "DataFrame":
    """Return every value that was tried: its missed share, and on how many seeds that rests."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for one in answers:
        number = one.point.number
        if isinstance(one.found, Smallest):
            rows += [
                (number, count, probe.missed, probe.runs, probe.verdict.value)
                for count, probe in one.found.probes.items()
            ]
        else:
            rows += [(number, value, missed, 1, "") for value, missed in one.found.tried]
            rows += [(number, value, miss, one.found.seeds, "") for value, miss in one.found.pair]
    return pd.DataFrame(rows, columns=["point", "value", "missed_share", "seeds", "verdict"])
