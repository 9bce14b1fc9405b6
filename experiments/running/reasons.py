"""Why points are as they are: decompositions, what limits their engines, and hopeless limits."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.reporting.records import Records
from experiments.reporting.why import bound_rows, parts_of
from experiments.running.lone import hopeless_limits
from experiments.running.pieces import read_columns, read_piece
from experiments.running.pooling import Spread
from experiments.running.sweep import Run
from experiments.study.build import scenario_of
from experiments.study.document import Study
from experiments.study.requests import with_prefixes
from sim.measuring.binding import RESOURCES
from sim.recording.handovers import HANDOVER_COLUMNS
from sim.recording.tape import Column

COLUMNS = (
    "arrival_s", "sent_s", "reached_s", "first_scheduled_s", "first_token_s", "streaming_s",
    "finish_s", "computed_s", "lost_s", "paused_s", "status", "prompt_tokens",
)  # fmt: skip


class Reasons(NamedTuple):
    """Why the points of a study are as they are."""

    parts: Records
    """decomposition.csv."""
    bound: Records
    """binding.csv."""
    hopeless: dict[int, list[str]]
    """By point the limits that no rate can keep."""


class _OfPoint(NamedTuple):
    point: int
    parts: list[dict[str, Any]]
    binding: dict[str, Column]
    hopeless: list[str]


def reasons(runs: Sequence[Run], spread: Spread) -> Reasons:
    """Say why each point is as it is; ``spread`` may use several processes.

    Runs lie point by point. The decomposition is of all measured requests of all seeds; what binds
    is looked at in the first run of a point.
    """
    tasks = [(number, list(group)) for number, group in groupby(runs, lambda run: run.point)]
    found = sorted(spread(_of_point, tasks), key=lambda one: one.point)
    columns = {
        name: np.concatenate([one.binding[name] for one in found]).tolist()
        for name in ("time_s", "replica", "resource")
    }
    moments = [len(one.binding["resource"]) for one in found]
    bound = Records(
        {
            "point": np.repeat([one.point for one in found], moments).tolist(),
            "time_s": columns["time_s"],
            "replica": columns["replica"],
            "bound_by": [RESOURCES[place] for place in columns["resource"]],
        }
    )
    parts = [{"point": one.point, **row} for one in found for row in one.parts]
    return Reasons(Records.of(parts), bound, {one.point: one.hopeless for one in found})


def _of_point(number: int, runs: list[Run]) -> _OfPoint:
    study = runs[0].study
    columns = _pooled(runs)
    scenario = scenario_of(study, runs[0].seed, runs[0].draw)
    found = read_piece(runs[0].path).binding
    moments = len(found["resource"])
    each = np.full(moments, 1 / max(1, moments))
    shares = np.bincount(found["resource"], each, len(RESOURCES)).tolist()
    rows = parts_of(columns, scenario.api.output_s)
    rows += bound_rows(dict(zip(RESOURCES, shares, strict=True)), moments)
    hopeless: list[str] = []
    if study.slo is not None and not _may_be_cached(study):
        prompts = columns["prompt_tokens"].astype(np.int64)
        hopeless = list(hopeless_limits(scenario, study.slo, prompts))
    return _OfPoint(number, rows, found, hopeless)


def _may_be_cached(study: Study) -> bool:
    """Tell whether parts of some prompts may be found in a cache, so that they cost less."""
    workload = study.workload
    alike = workload.prefixes is not None or workload.trace is not None or workload.has_sessions
    return alike and with_prefixes(study)


def parts_of_runs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of decomposition.csv of one point, but for what binds it."""
    api = scenario_of(runs[0].study, runs[0].seed, runs[0].draw).api
    return parts_of(_pooled(runs), api.output_s)


def _pooled(runs: Sequence[Run]) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of the measured requests of several runs."""
    wanted = (*COLUMNS, *(HANDOVER_COLUMNS if runs[0].study.cluster.has_roles else ()))
    found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in wanted}
    for run in runs:
        columns = read_columns(run.path, ("measured", *wanted))
        _, measured = next(columns)
        kept = measured == 1
        for name, values in columns:
            found[name].append(values[kept])
    if len(runs) == 1:
        return {name: values for name, (values,) in found.items()}
    return {name: np.concatenate(pieces) for name, pieces in found.items()}
