"""From knobs to figures: the point that they describe, simulated as ``run`` does it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any

from experiments.reporting.differences import paired_difference
from experiments.reporting.page.data import page_data
from experiments.reporting.page.write import cards
from experiments.running.assemble import runs_table, summary_table
from experiments.running.curves import curves_of
from experiments.running.pooling import loaded_points, loads_of
from experiments.running.reasons import parts_of_runs
from experiments.running.sweep import Run
from experiments.study.document import Loaded, Study, validate
from experiments.study.overrides import apply_overrides, override
from experiments.study.points import Plan, prepare
from experiments.study.yaml_source import Document

MOST_SEEDS = 8
MOST_REQUESTS = 20_000
"""Of one run, so that an answer takes a second and not a minute."""
DIFFERENCES = {
    "usd_per_million_output_tokens": ("USD per million output tokens", 1.0),
    "usd_per_hour": ("USD per hour", 1.0),
    "slo_attainment": ("within the limits, %", 100.0),
    "ttft_p99_s": ("TTFT p99, ms", 1e3),
    "tpot_p99_s": ("TPOT p99, ms", 1e3),
    "output_tokens_per_s": ("output tokens/s", 1.0),
}
"""What is laid beside the baseline, and in which unit."""


@dataclass(frozen=True, slots=True)
class Base:
    """The point of a study that the page starts from."""

    raw: dict[str, Any]
    """As the study's file has it, without its sweep."""
    name: str
    notes: tuple[str, ...]
    """What was changed to make it quick."""

    def study(self) -> Study:
        """Return the point as its file has it: what the engine decides is left to it."""
        study, _ = validate(self.raw)
        assert study is not None  # it has been prepared
        return study

    def plan(self, settings: Mapping[str, Any], seeds: int) -> Plan:
        """Return the plan of one point with some settings.

        Raises:
            StudyError: the settings contradict each other, or do not fit on the GPU.
        """
        given = {**settings, "seeds": seeds}
        raw = copy.deepcopy(self.raw)
        overrides = [override(key, value, f"{key}={value}") for key, value in given.items()]
        _, problems = apply_overrides(raw, overrides)
        assert not problems  # knobs name keys that there are
        return prepare(Loaded(raw, Document(label=self.name), overrides, []))


def base_of(loaded: Loaded, number: int) -> Base:
    """Return one point of a study, made small enough to be explored.

    Raises:
        StudyError: whatever is wrong with the study.
        ValueError: no such point.
    """
    plan = prepare(loaded)
    if not 1 <= number <= len(plan.points):
        raise ValueError(f"--point {number}, expected 1 to {len(plan.points)}")
    point = plan.points[number - 1]
    raw = copy.deepcopy(dict(loaded.raw)) | {"sweep": {}}
    swept = [override(key, value, f"{key}={value}") for key, value in point.values.items()]
    apply_overrides(raw, swept)
    notes = []
    raw["calibration_draws"] = 0
    workload = dict(raw["workload"])
    if raw.get("precision") or not (workload.get("num_requests") or workload.get("duration_s")):
        raw["precision"] = None
    if "trace" not in workload:
        count = workload.get("num_requests")
        if count is None or count > MOST_REQUESTS:
            workload |= {"num_requests": MOST_REQUESTS, "duration_s": None}
            notes.append(f"each run has {MOST_REQUESTS:,} requests here")
    else:
        limit = workload.get("limit")
        if limit is None or limit > MOST_REQUESTS:
            workload["limit"] = MOST_REQUESTS
            notes.append(f"at most the first {MOST_REQUESTS:,} requests of the trace are replayed")
    return Base(raw | {"workload": workload}, plan.study.name, tuple(notes))


def answer(plan: Plan, runs: Sequence[Run], baseline: Sequence[Run]) -> dict[str, Any]:
    """Return what the page shows once some seeds have run; a baseline has at least the same."""
    part = _first_seeds(plan, len(runs))
    table = runs_table(part, runs)
    loads = loads_of(loaded_points(part, table), starmap)
    (found,) = summary_table(part, table, runs, loads, {}).to_dict("records")
    row = {str(name): value for name, value in found.items()}
    study = plan.points[0].study
    data = page_data(
        plan.study.name, (), [row], list(curves_of(runs, {1: parts_of_runs(runs)})), study.slo,
        clock=study.workload.has_clock,
    )  # fmt: skip
    (point,) = data["points"]
    told = {one["id"]: point["m"][one["m"]] for one in data["columns"] if "m" in one}
    figures = {name: each if isinstance(each, list) else [each] for name, each in told.items()}
    return {
        "seeds": len(runs),
        "verdict": data["verdict"],
        "cards": cards(row, study.cluster.gpus),
        "point": {**point, "m": figures},
        "spans": data["spans"],
        "limits": data["limits"],
        "days": data["days"],
        "differences": _differences(part, runs, baseline[: len(runs)]),
    }


def _first_seeds(plan: Plan, count: int) -> Plan:
    point = plan.points[0]
    return replace(plan, points=(replace(point, seeds=point.seeds[:count]),))


def _differences(plan: Plan, runs: Sequence[Run], baseline: Sequence[Run]) -> list[dict[str, Any]]:
    """Differences to the baseline, paired by seed: what a seed does to both cancels."""
    if len(baseline) != len(runs):
        return []
    import pandas as pd

    now, then = runs_table(plan, runs), runs_table(plan, baseline)
    both = pd.concat([then.assign(point=0), now.assign(point=1)])
    found = []
    for metric, (name, factor) in DIFFERENCES.items():
        told = paired_difference(both, ["point"], metric, {"point": 0}).iloc[1]
        values = {
            "baseline": then[metric].mean(), "now": now[metric].mean(),
            **{key: told[key] for key in ("difference", "difference_lo", "difference_hi")},
        }  # fmt: skip
        plain = {
            key: float(f"{value * factor:.4g}") if value == value else None
            for key, value in values.items()
        }
        found.append({"name": name, **plain})
    return found
