"""``kind: capacity``: the study file, and every complaint about it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from experiments.planning import keys
from experiments.planning.decided import left_to_search
from experiments.planning.lengths import FEWEST, RATES, STEADY
from experiments.study.build import is_random
from experiments.study.document import Loaded, Study
from experiments.study.errors import Problem, StudyError, show
from experiments.study.keys import key_path
from experiments.study.points import Plan, Point, prepare
from experiments.study.schema import all_keys, unknown_key, value_at
from experiments.study.yaml_source import Path
from model.dataclass import dataclass
from sim.measuring.slo import Slo

REPLICAS = "cluster.replicas"
"""The key of which the smallest value is looked for: more of it keeps more."""
LENGTHS = tuple(
    f"workload.{name}" for name in ("num_requests", "duration_s", "limit", "start_s", "stop_s")
)
"""How long runs are, which is no load; most of it the search chooses itself."""
SIMULATED = ("workload", "cluster", "engine", "client", "model", "calibration")
"""What a key to be searched may be of."""


class CapacityStudy(Study):
    """The highest rate (users, length, any key that makes it harder) that keeps the SLO."""

    kind: Literal["capacity"]  # type: ignore[assignment]
    """A search for the highest value of one key that keeps the SLO."""
    slo: Slo
    """What has to be kept."""
    vary: str | None = None
    """The dotted key that is searched: more of it must miss more. Of cluster.replicas the smallest
    number that keeps the SLO is found. Default: the rate of the workload's arrivals, its users, or
    workload.rate_scale of a trace, workload.clients.rate_scale."""
    half_width: float = Field(default=0.02, ge=0.002, le=0.5)
    """Wanted half-width of the interval, as a share of the value; it decides how many seeds are
    run, up to 48."""
    confidence: float = Field(default=0.95, ge=0.5, le=0.999)
    """Of the interval, and of the verdict on a number of replicas."""
    run_requests: int = Field(default=FEWEST, ge=500, le=10**8)
    """Requests of one run, at least; more where more are in the system at once. Short runs have
    neither filled up nor seen the busy periods, and sell too much."""
    most: int = Field(default=4096, gt=0, le=100_000)
    """Most replicas that are tried, where those are searched."""


NO_LUCK = (
    "nothing is random here, so all seeds are one run and what is found has no interval; of a "
    "trace workload.resample: {window_s: 300} draws its requests again"
)
OWN = ("vary", "half_width", "confidence", "run_requests", "most")


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """A capacity study that can run."""

    study: CapacityStudy
    plan: Plan
    """Its points, as those of a serving study."""
    key: str

    @property
    def points(self) -> tuple[Point, ...]:
        """One search each."""
        return self.plan.points

    @property
    def is_rate(self) -> bool:
        """Whether the key is a rate that a capacity can be compared with."""
        return self.key in STEADY


def prepare_capacity(loaded: Loaded) -> CapacityPlan:
    """Check a capacity study, build every point, simulate nothing.

    Raises:
        StudyError: everything that is wrong with it.
    """
    raw = {**loaded.raw, "kind": "capacity"}
    keys.check_names(CapacityStudy, loaded, raw)
    usual: dict[Path, int] = {
        ("workload", "num_requests"): _length(raw), ("seeds",): 1, ("calibration_draws",): 0,
    }  # fmt: skip
    raw, left = left_to_search(loaded, raw, usual)
    key = _key(loaded, raw)
    filled, notes = _filled(raw, key)
    serving = replace(
        loaded,
        raw={name: value for name, value in filled.items() if name not in OWN}
        | {"kind": "serving"},
        notes=[*loaded.notes, *left, *notes],
    )
    plan = prepare(serving)
    if not any(is_random(point.study) for point in plan.points):
        plan = replace(plan, notes=(*plan.notes, NO_LUCK))
    key = _number_of(plan, key)
    _check_points(loaded, plan, key)
    study = keys.validated(
        CapacityStudy, loaded, plan.study.resolved() | _own(raw) | {"kind": "capacity"}
    )
    return CapacityPlan(study.model_copy(update={"vary": key}), plan, key)


def _length(raw: Mapping[str, Any]) -> int:
    """Requests of one run, at least: what the study then says of its workload as well."""
    given = raw.get("run_requests")
    return given if isinstance(given, int) and given > 0 else FEWEST


def _own(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: raw[name] for name in OWN if name in raw}


def _key(loaded: Loaded, raw: Mapping[str, Any]) -> str:
    given = raw.get("vary")
    if given is None:
        given = _default(raw)
        if not given:
            raise StudyError.of(
                "vary: missing, expected a dotted key of the study that makes it harder, e.g. "
                "workload.arrivals.rate_on_per_s", loaded.document.label,
            )  # fmt: skip
        return given
    if not isinstance(given, str) or not all(given.split(".")):
        raise _fault(loaded, f"vary = {show(given)}: expected a dotted key, e.g. {STEADY[0]}")
    if given not in all_keys(Study, raw):
        text = unknown_key(Study, key_path(given), raw)
        raise _fault(loaded, f"vary = {show(given)}: {text}")
    if key_path(given)[0] not in SIMULATED or given in LENGTHS:
        raise _fault(
            loaded,
            f"vary = {show(given)}: says how to measure or judge, expected a key of "
            f"{', '.join(SIMULATED)} of which more is harder",
        )
    return given


def _default(raw: Mapping[str, Any]) -> str:
    """The rate of the workload as it is written, checked or not."""
    if value_at(raw, ("workload", "trace")) is not None:
        return "workload.rate_scale"
    if value_at(raw, ("workload", "clients")) is not None:
        return "workload.clients.rate_scale"
    name = RATES.get(str(value_at(raw, ("workload", "arrivals", "process"))))
    return f"workload.arrivals.{name}" if name else ""


def _filled(raw: dict[str, Any], key: str) -> tuple[dict[str, Any], list[str]]:
    """Give what a search decides for itself: the value, and how long a run is; do not sweep it."""
    from copy import deepcopy

    filled, notes = deepcopy(raw), []
    for row in keys.sweep_rows(filled):
        if key in row:
            del row[key]
            notes.append(f"{key} is searched, so it is not swept")
    workload = filled.get("workload")
    if isinstance(workload, dict) and all(workload.get(k) is None for k in ("trace", "clients")):
        if workload.get("num_requests") is None and workload.get("duration_s") is None:
            workload["num_requests"] = _length(raw)
        arrivals = workload.get("arrivals")
        name = key.rsplit(".", 1)[-1]
        if key.startswith("workload.arrivals.") and isinstance(arrivals, dict):
            arrivals.setdefault(name, 1)
    return filled, list(dict.fromkeys(notes))


def _number_of(plan: Plan, key: str) -> str:
    """Return the key of the number where ``key`` is that of lengths which are always the same."""
    laws = [value_at(point.study.resolved(), key_path(key)) for point in plan.points]
    always = all(isinstance(law, Mapping) and set(law) == {"distribution", "value"} for law in laws)
    return f"{key}.value" if always else key


def _check_points(loaded: Loaded, plan: Plan, key: str) -> None:
    for point in plan.points:
        workload = point.study.workload
        keys.check_sessions(loaded, workload)
        keys.check_slo(loaded, point.study)
        value = value_at(point.study.resolved(), key_path(key))
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise _fault(
                loaded,
                f"vary = {key}: it is {show(value)} there, expected a key with a number above 0",
            )


def _fault(loaded: Loaded, text: str) -> StudyError:
    return StudyError([Problem(loaded.where(("vary",)), text)])
