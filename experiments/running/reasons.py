"""Why points are as they are: decompositions, what limits their engines, and hopeless limits."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.why import bound_rows, parts_of
from experiments.running.lone import hopeless_limits
from experiments.running.pieces import read_column, read_piece
from experiments.running.sweep import Run
from experiments.study.build import scenario_of
from experiments.study.points import Plan
from sim.binding import RESOURCES

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    "arrival_s", "sent_s", "reached_s", "first_scheduled_s", "first_token_s", "finish_s",
    "computed_s", "lost_s", "paused_s", "status", "prompt_tokens",
)  # fmt: skip


def reasons(plan: Plan, runs: Sequence[Run]) -> "tuple[DataFrame, DataFrame, dict[int, list[str]]]":
    """Return decomposition.csv, binding.csv, and by point the limits that no rate can keep.

    Runs lie point by point. The decomposition is of all measured requests of all seeds; what binds
    is looked at in the first run of a point.
    """
    import pandas as pd

    parts: list[dict[str, Any]] = []
    bound: list[dict[str, Any]] = []
    hopeless: dict[int, list[str]] = {}
    points = {point.number: point for point in plan.points}
    for number, group in groupby(runs, lambda run: run.point):
        of_point = list(group)
        study = points[number].study
        columns = _pooled(of_point)
        scenario = scenario_of(study, of_point[0].seed, of_point[0].draw)
        found = read_piece(of_point[0].path).binding
        shares = [0.0] * len(RESOURCES)
        for place in found["resource"]:
            shares[int(place)] += 1 / len(found["resource"])
        rows = parts_of(columns, scenario.api.output_s)
        rows += bound_rows(dict(zip(RESOURCES, shares, strict=True)), len(found["resource"]))
        parts += [{"point": number, **row} for row in rows]
        bound += [
            {
                "point": number,
                "time_s": time_s,
                "replica": int(replica),
                "bound_by": RESOURCES[int(at)],
            }
            for time_s, replica, at in zip(
                found["time_s"], found["replica"], found["resource"], strict=True
            )
        ]
        if (
            study.slo is not None
            and study.workload.prefixes is None
            and study.workload.trace is None
        ):
            prompts = columns["prompt_tokens"].astype(np.int64)
            hopeless[number] = list(hopeless_limits(scenario, study.slo, prompts))
    return pd.DataFrame(parts), pd.DataFrame(bound), hopeless


def parts_of_runs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of decomposition.csv of one point, but for what binds it."""
    api = scenario_of(runs[0].study, runs[0].seed, runs[0].draw).api
    return parts_of(_pooled(runs), api.output_s)


def _pooled(runs: Sequence[Run]) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of the measured requests of several runs, read one by one."""
    kept = [read_column(run.path, "measured") == 1 for run in runs]
    return {
        name: np.concatenate(
            [read_column(run.path, name)[rows] for run, rows in zip(runs, kept, strict=True)]
        )
        for name in COLUMNS
    }
