"""The tables of a plan: the answer, every candidate, windows, sensitivity."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from experiments.planning.day_probe import DayProbe
from experiments.planning.plan.candidates import Candidate
from experiments.planning.plan.fates import fate, solved, why
from experiments.planning.plan.finding import Finalist, PlanFound
from experiments.planning.plan.problem import Problem
from experiments.planning.plan.words import replicas_after
from experiments.planning.probes import Probe, SteadyProbe

if TYPE_CHECKING:
    from pandas import DataFrame

NAN = math.nan
OF_NONE = ("rank", "candidate", "name", "deployment", "replicas", "gpus", "usd_per_hour",
           "contract")  # fmt: skip
"""Columns of a table without a row: nothing keeps the SLO."""
COUNTS = ("windows", "least_replicas", "replicas", "tried_replicas")


def plan_table(found: PlanFound) -> "DataFrame":
    """Return the answer and the runners-up, a row each."""
    import pandas as pd

    rows = [{"rank": rank, **_row(found, one)} for rank, one in enumerate(found.finalists, 1)]
    return whole(pd.DataFrame(rows, columns=None if rows else list(OF_NONE)))


def _row(found: PlanFound, one: Finalist) -> dict[str, Any]:
    holds, down = one.holds, one.one_down
    probe = one.probe
    counts = getattr(probe, "counts", None)
    windows = probe.day.windows * len(probe.days) if isinstance(probe, DayProbe) else NAN
    return {
        "candidate": one.candidate.number, "name": one.candidate.name, **one.candidate.values,
        "deployment": one.candidate.told(one.replicas),
        "replicas": one.replicas, "gpus": one.gpus, "usd_per_hour": _usd(one.usd_per_hour),
        "contract": found.problem.plan.study.contract,
        "missed_share": probe.missed, "verdict": probe.verdict.value, "windows": windows,
        "runs": _whole_runs(probe), "requests": 0 if counts is None else counts.measured,
        "binds": "" if counts is None else counts.binds,
        "one_down": "missed" if down is None else down.verdict.value,
        "missed_one_down": NAN if down is None else down.missed,
        "forecast_multiple": found.demand.growth, "planned_multiple": found.demand.design,
        "holds_multiple": NAN if holds is None else holds.value,
        "holds_multiple_lo": NAN if holds is None else holds.low,
        "holds_multiple_hi": NAN if holds is None else holds.high,
        "risk": one.risk, "risk_lo": one.risk_ends[0], "risk_hi": one.risk_ends[1],
        "risk_kept": one.proven,
    }  # fmt: skip


def _whole_runs(probe: Probe) -> int:
    """Runs that the missed share rests on."""
    return len(probe.days) if isinstance(probe, DayProbe) else probe.runs


def candidates_table(found: PlanFound) -> "DataFrame":
    """Return every candidate in written order: what it costs, what was tried, why it lost."""
    import pandas as pd

    rows = []
    for one in found.candidates:
        state = found.states.get(one.number)
        tried = {} if state is None else state.probes
        last = None if state is None else state.replicas or state.not_kept
        own: tuple[float, float, float] = (NAN, NAN, NAN)
        if state is not None and state.replicas is not None:
            own = solved(found, one)
            last = int(own[0])
        rows.append(
            {
                "candidate": one.number,
                "name": one.name,
                **one.values,
                **_of_a_replica(one),
                "least_replicas": NAN if state is None else state.least,
                "bound_usd_per_hour": NAN if state is None else _usd(state.bound_usd),
                "replicas": own[0],
                "usd_per_hour": _usd(own[1]),
                "tried_replicas": NAN if last is None else last,
                "missed_share": NAN if last is None else tried[last].missed,
                "runs": sum(probe.asked for probe in tried.values()),
                "fate": fate(found, one),
                "why": why(found, one),
            }
        )
    return whole(pd.DataFrame(rows))


def whole(table: "DataFrame") -> "DataFrame":
    """Return a table whose counts are whole numbers where some of them are missing."""
    counts = [name for name in COUNTS if name in table]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _usd(price: float) -> float:
    """Without what adding prices up leaves in the sixteenth digit."""
    return round(price, 6)


def _of_a_replica(one: Candidate) -> dict[str, float]:
    """What one replica is; of pools that differ, what one of each of them is together."""
    sizes, least = one.sizes, one.sizes.fewest
    return {
        "gpus_per_replica": sizes.gpus_of(least),
        "usd_per_replica_hour": _usd(sizes.usd_per_hour(least)),
        "capacity_per_s": sizes.capacity_per_s(least) if sizes.rates else NAN,
    }


def windows_table(found: PlanFound) -> "DataFrame":
    """Return the windows of the answer's days; of steady traffic the batches of its runs."""
    import pandas as pd

    columns = ["seed", "window", "start_s", "requests", "missed", "kept"]
    rows = [] if found.winner is None else list(_windows(found.problem, found.winner.probe))
    return pd.DataFrame(rows, columns=columns)


def _windows(problem: Problem, probe: Probe) -> Iterator[tuple[Any, ...]]:
    if isinstance(probe, DayProbe):
        for run in probe.days:
            lost = run.lost(problem.promises)
            for window in range(probe.day.windows):
                yield (
                    run.seed, window + 1, window * probe.day.window_s, int(run.measured[window]),
                    max(int(each[window]) for each in run.missed.values()), not lost[window],
                )  # fmt: skip
    elif isinstance(probe, SteadyProbe):
        worst = probe.counts.worst
        for number, batches in enumerate(probe.batches):
            for window, (missed, measured) in enumerate(batches[worst.key], start=1):
                kept = missed <= worst.allowed * measured
                seed = probe.study.seed + 1 + number
                yield seed, window, NAN, measured, missed, kept


def sensitivity_table(found: PlanFound) -> "DataFrame":
    """Return what the traffic that is held changes by, and the replicas that would be needed."""
    import pandas as pd

    winner = found.winner
    rows = []
    for change in (*found.changes, *found.draws):
        count = replicas_after(found, change)
        usd = NAN
        if count is not None and winner is not None:
            usd = winner.candidate.sizes.usd_per_hour(count)
        rows.append(
            (change.name, change.ratio - 1, change.low - 1, change.high - 1,
             NAN if count is None else count, _usd(usd), change.said)
        )  # fmt: skip
    columns = ["change", "held", "held_lo", "held_hi", "replicas", "usd_per_hour", "said"]
    return whole(pd.DataFrame(rows, columns=columns))
