"""From the file of a plan to candidates that can be simulated, and every complaint about it."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import chain, takewhile
from typing import Any

from experiments.planning import keys
from experiments.planning.decided import does_not_matter
from experiments.planning.plan.ratios import with_ratios
from experiments.planning.plan.study import OWN, PlanStudy, window_s_of
from experiments.planning.prices import usd_of_each
from experiments.planning.traffic import resampling
from experiments.study import faults
from experiments.study.document import Loaded, Study, validate
from experiments.study.errors import Problem, StudyError, show
from experiments.study.grid import Setting, expand, fill_missing, substitute
from experiments.study.keys import dotted, key_path
from experiments.study.precision import SIZED
from experiments.study.schema import all_keys, unknown_key, without_misspelt
from experiments.study.yaml_source import Path
from model.dataclass import dataclass

CANDIDATE_SECTIONS = ("model", "cluster", "engine", "calibration")
LENGTH = 10_000
"""Requests of a workload that does not say how many: runs are as long as they need to be."""


@dataclass(frozen=True, slots=True)
class PlanInput:
    """A plan that was read."""

    study: PlanStudy
    settings: tuple[Setting, ...]
    studies: tuple[Study, ...]
    """One per candidate: a replica, not settled, its price per GPU set."""
    keys: tuple[str, ...]
    """What candidates differ in."""
    notes: tuple[str, ...]


def read_plan(loaded: Loaded) -> PlanInput:
    """Check a plan and its candidates, build nothing.

    Raises:
        StudyError: everything that is wrong with it.
    """
    raw = {**loaded.raw, "kind": "plan"}
    keys.check_names(PlanStudy, loaded, raw)
    if raw.get("sweep"):
        text = "sweep: a plan has candidates, which say what may be bought"
        raise StudyError([Problem(loaded.where(("sweep",)), text)])
    settings = _settings(loaded, raw)
    serving = _serving(raw)
    base, filled = fill_missing(serving, settings[0].values)
    study, schema_faults = validate(base)
    found = faults.merged(schema_faults, faults.references(base))
    known = [fault for fault in found if fault[0] not in filled]
    source = base if study is None else study.resolved()
    checked = [faults.check(source, setting) for setting in settings]
    known = without_misspelt(known, chain.from_iterable(each for _, each in checked))
    problems = [faults.problem(loaded, base, fault) for fault in known]
    problems += faults.point_problems(
        loaded, settings, [each for _, each in checked], known, "candidate"
    )
    problems += loaded.document.problems
    if problems or study is None:
        raise StudyError(faults.by_line(problems))
    keys.check_slo(loaded, study)
    own = {name: raw[name] for name in OWN if name in raw}
    plan = keys.validated(PlanStudy, loaded, study.resolved() | own | {"kind": "plan"})
    settings, studies = with_ratios(
        settings, [point for point, _ in checked if point is not None], plan.ratios, raw,
        loaded.where(("ratios",)),
    )  # fmt: skip
    pools = [pool for each in studies for pool in each.cluster.all_pools]
    prices = iter(usd_of_each(loaded, plan, pools))
    priced = tuple(_priced(plan, each, prices) for each in studies)
    _check_workload(loaded, plan)
    _check_sensitivity(loaded, plan, priced)
    swept = tuple(dict.fromkeys(key for setting in settings for key in setting.values))
    notes = [*loaded.notes]
    if study.cluster.pools is None and study.cluster.replicas != 1:
        notes.append("cluster.replicas is solved for: what the study says of it does not matter")
    usual: dict[Path, int] = {("workload", "num_requests"): LENGTH, ("seeds",): 1}
    notes += does_not_matter(raw, usual)
    return PlanInput(plan, tuple(settings), priced, swept, tuple(notes))


def _settings(loaded: Loaded, raw: Mapping[str, Any]) -> list[Setting]:
    if raw.get("candidates") in (None, {}, []):
        text = "candidates: missing, expected what may be bought, e.g. {cluster.gpu: [h100-sxm]}"
        raise StudyError([Problem(loaded.where(("candidates",)), text)])
    found: list[Setting] = []
    problems: list[Problem] = []
    for name in ("candidates", "also"):
        given = raw.get(name)
        if given in (None, [], {}):
            continue
        settings, told = expand(given, partial(all_keys, Study, raw), CANDIDATE_SECTIONS)
        problems += [
            Problem(loaded.where((name, *path[1:])), f"{dotted((name, *path[1:]))}: {text}")
            for path, text in told
        ]
        for setting in settings:
            origins = {key: (name, *path[1:]) for key, path in setting.origins.items()}
            found.append(Setting(setting.values, origins))
    for setting in found:
        for key, origin in setting.origins.items():
            if key == "cluster.replicas":
                text = "the number of replicas is what a plan solves for"
                problems.append(Problem(loaded.where(origin), f"candidates: {key}: {text}"))
    if problems:
        raise StudyError(faults.by_line(dict.fromkeys(problems)))
    return _once(found)


def _once(settings: list[Setting]) -> list[Setting]:
    """Drop what ``also`` repeats."""
    kept: dict[str, Setting] = {}
    for setting in settings:
        kept.setdefault(repr(sorted(setting.values.items(), key=lambda one: one[0])), setting)
    return list(kept.values())


def _serving(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The study of serving in a plan, its run as long as it needs to be, and one replica."""
    serving = deepcopy({key: value for key, value in raw.items() if key not in OWN})
    serving["kind"] = "serving"
    serving.pop("sweep", None)
    workload = serving.get("workload")
    if isinstance(workload, dict) and all(workload.get(name) is None for name in SIZED):
        workload["num_requests"] = LENGTH
    return serving


def _priced(plan: PlanStudy, study: Study, prices: Iterator[float]) -> Study:
    """Return a candidate with one replica, the price of its GPUs, and traffic that has luck.

    Of pools the replicas stay: they are their ratio. Each of them takes the next of the prices.
    """
    workload = resampling(study.workload, window_s_of(plan.slo))
    pools = [
        pool.model_copy(update={"gpu_usd_per_hour": next(prices)})
        for pool in study.cluster.all_pools
    ]
    changes: dict[str, object] = {"pools": pools}
    if study.cluster.pools is None:
        changes = {"replicas": 1, "gpu_usd_per_hour": pools[0].gpu_usd_per_hour}
    cluster = study.cluster.model_copy(update=changes)
    return study.model_copy(update={"cluster": cluster, "workload": workload})


def _check_sensitivity(loaded: Loaded, plan: PlanStudy, candidates: Sequence[Study]) -> None:
    """Refuse keys that there are not, and values that no candidate can have."""
    whole = plan.resolved()
    problems = []
    for key, others in plan.sensitivity.items():
        where, path = loaded.where(("sensitivity", key)), key_path(key)
        if key not in all_keys(Study, whole):
            problems.append(Problem(where, f"sensitivity.{key}: {unknown_key(Study, path, whole)}"))
            continue
        for other in others:
            tried = (validate(substitute(one.resolved(), {key: other})) for one in candidates)
            faulty = list(takewhile(lambda found: found[0] is None, tried))
            if len(faulty) == len(candidates):
                told = "; ".join(f"{dotted(at)}: {text}" for at, text in faulty[0][1])
                problems.append(Problem(where, f"sensitivity.{key} = {show(other)}: {told}"))
    if problems:
        raise StudyError(faults.by_line(problems))


def _check_workload(loaded: Loaded, plan: PlanStudy) -> None:
    workload = plan.workload
    keys.check_sessions(loaded, workload)
    if workload.trace_sessions is not None:
        raise StudyError.of(
            "workload.trace_sessions: plans do not know conversations of a trace yet, expected "
            "workload.sessions, whose turns are drawn",
            loaded.where(("workload", "trace_sessions")),
        )
    if workload.clients is not None:
        raise StudyError.of(
            "workload.clients: plans do not know clients of a folder yet, expected arrivals, users "
            "or a trace; capacity finds their highest rate",
            loaded.where(("workload", "clients")),
        )
    if getattr(workload.arrivals, "process", "") == "all_at_once":
        raise StudyError(
            [
                Problem(
                    loaded.where(("workload", "arrivals")),
                    "workload.arrivals.process = all_at_once: a batch has no rate to plan for, "
                    "expected arrivals in time, users, or a trace",
                )
            ]
        )
