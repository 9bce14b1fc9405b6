"""From knobs to figures: the point that they describe, simulated as ``run`` does it."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from typing import Any

from experiments.reporting.differences import differences_table
from experiments.reporting.notes import point_notes
from experiments.reporting.page.columns import named
from experiments.reporting.page.data import STEADY, page_data
from experiments.reporting.page.write import cards, shown_tails
from experiments.reporting.records import Records
from experiments.reporting.words import calibrations_of
from experiments.running.assemble import runs_table, summary_table
from experiments.running.curves import curves_of
from experiments.running.pooling import loaded_points, loads_of
from experiments.running.reasons import parts_of_runs
from experiments.running.sweep import Run
from experiments.study.document import Loaded, Study, validate
from experiments.study.grid import expand
from experiments.study.overrides import apply_overrides, override
from experiments.study.points import Plan, prepare
from experiments.study.yaml_source import Document
from model.dataclass import dataclass
from sim.measuring.slo import Slo

MOST_SEEDS = 8
MOST_REQUESTS = 20_000
"""Of one run, so that an answer takes a second and not a minute."""
FIRST_REQUESTS = 4_000
"""Of the first look at a setting, where its runs are more than twice as long."""
DIFFERENCES = (
    "usd_per_million_output_tokens", "usd_per_hour", "slo_attainment", "output_tokens_per_s",
)  # fmt: skip
"""What is laid beside the baseline, with the tails of TTFT and TPOT."""
ENDS = ("difference", "difference_lo", "difference_hi")


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

    @property
    def first_requests(self) -> int | None:
        """Requests of a first look: one seed of a shorter run; None where runs are short, and where
        a shorter one may end before what is measured begins."""
        if self.raw.get("warmup_s"):
            return None
        count = self.raw["workload"].get("num_requests")
        return FIRST_REQUESTS if count is not None and count > 2 * FIRST_REQUESTS else None

    def plan(self, settings: Mapping[str, Any], seeds: int, requests: int | None = None) -> Plan:
        """Return the plan of one point with some settings, and as many requests as are asked for.

        Raises:
            StudyError: the settings contradict each other, or do not fit on the GPU.
        """
        given = {**settings, "seeds": seeds}
        if requests is not None:
            given["workload.num_requests"] = requests
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
    settings, _ = expand(loaded.raw.get("sweep"))
    raw = copy.deepcopy(dict(loaded.raw)) | {"sweep": {}, "baseline": None}
    values = copy.deepcopy(settings[number - 1].values)
    apply_overrides(raw, [override(key, value, f"{key}={value}") for key, value in values.items()])
    notes = []
    raw["calibration_draws"] = 0
    workload = dict(raw["workload"])
    if raw.get("precision") or not (workload.get("num_requests") or workload.get("duration_s")):
        raw["precision"] = None
    if workload.get("clients") is not None:
        notes.append("each run has the whole of workload.clients: a shorter time answers sooner")
    elif "trace" not in workload:
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


def answer(
    plan: Plan, runs: Sequence[Run], other: Plan | None, others: Sequence[Run]
) -> dict[str, Any]:
    """Return what the page shows once some seeds have run.

    Args:
        plan: of the setting.
        runs: of its first seeds.
        other: plan of the baseline; None without one.
        others: runs of the same seeds of it.
    """
    table, row = _summary(plan, runs)
    study = plan.points[0].study
    data = page_data(
        plan.study.name, (), [row], list(curves_of(runs, {1: parts_of_runs(runs)})), study.slo,
        clock=study.workload.has_clock,
    )  # fmt: skip
    (point,) = data["points"]
    told = {one["id"]: point["m"][one["m"]] for one in data["columns"] if "m" in one}
    figures = {name: each if isinstance(each, list) else [each] for name, each in told.items()}
    names = [one["id"] for one in data["columns"] if "m" in one]
    few = point.get("few", [])
    paired = other is not None and len(others) == len(runs)
    return {
        "seeds": len(runs),
        "verdict": data["verdict"],
        "cards": cards(row, study.cluster.gpus, study.slo),
        "point": {
            **point,
            "m": figures,
            "few": dict(zip((names[at] for at in few[::2]), few[1::2], strict=True)),
        },
        "spans": data["spans"],
        "bound": data["bound"],
        "limits": data["limits"],
        "tails": data["tails"],
        "days": data["days"],
        "notes": _notes(plan, row),
        "differences": _differences((table, row), _summary(other, others), study.slo)
        if other is not None and paired
        else [],
    }


def _notes(plan: Plan, row: Mapping[str, Any]) -> list[str]:
    """What the figures rest on, and what a reader must know of them: as a report has it."""
    prices = f"prices: {' and '.join(calibrations_of(plan))}"
    return [prices, *point_notes(plan, [row], row["saturated"] > 0)]


def _summary(plan: Plan, runs: Sequence[Run]) -> tuple[Records, dict[str, Any]]:
    """Return the table of some runs, and the row of the summary that they make."""
    point = plan.points[0]
    part = replace(plan, points=(replace(point, seeds=point.seeds[: len(runs)]),))
    table = runs_table(part, runs)
    loads = loads_of(loaded_points(part, table), starmap)
    (found,) = summary_table(part, table, runs, loads, {}).rows()
    return table, found


def _differences(
    now: tuple[Records, dict[str, Any]], then: tuple[Records, dict[str, Any]], slo: Slo | None
) -> list[dict[str, Any]]:
    """Differences to the baseline, as differences.csv has them: paired by seed."""
    both = [
        row | {"point": point}
        for point, (table, _) in enumerate((then, now), start=1)
        for row in table.rows()
    ]
    rows = [then[1] | {"point": 1}, now[1] | {"point": 2}]
    table = differences_table(Records.of(both), Records.of(rows), [], {1: 1, 2: 1})
    told = {row["metric"]: row for row in table.rows()}
    found = []
    for metric in (*DIFFERENCES[:-1], *shown_tails(slo), DIFFERENCES[-1]):
        name, factor = named(metric)
        before, after = (_lasting(row, metric) for _, row in (then, now))
        exact = dict.fromkeys(ENDS, after - before)  # of what is no estimate
        gap = exact if math.isnan(after - before) else told.get(metric, exact)
        values = {"baseline": before, "now": after, **{key: gap[key] for key in ENDS}}
        plain = {
            key: float(f"{value * factor:.4g}") if value == value else None
            for key, value in values.items()
        }
        found.append({"name": name, **plain})
    return found


def _lasting(row: Mapping[str, Any], metric: str) -> float:
    """A figure of a point; NaN for a latency that grows for as long as a run lasts."""
    grows = row["saturated"] > 0 and metric.startswith(STEADY)
    return math.nan if grows else float(row[metric])
