"""Everything that is checked before anything runs: points, scenarios, requests, seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from itertools import chain
from typing import Any

from experiments.study import build, effects, faults, memory
from experiments.study.baseline import baselines
from experiments.study.document import Loaded, Study, validate
from experiments.study.errors import Problem, StudyError, show
from experiments.study.grid import SWEEPABLE, Setting, cell, expand, fill_missing, in_brief
from experiments.study.keys import key_path
from experiments.study.plugins import given_plugins
from experiments.study.pools import called
from experiments.study.requests import requests_of, with_prefixes
from experiments.study.schema import all_keys, value_at, without_misspelt
from experiments.study.sections import as_written, losses
from experiments.study.yaml_source import Path
from model.dataclass import dataclass
from sim.ceilings import ceilings_of
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.pools import Pool, PoolEngine
from sim.settings.resolved_engine import RESOLVED


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of a sweep, checked."""

    number: int
    """From 1, in written order."""
    values: dict[str, Any]
    """Swept key to value, one cell of a table each."""
    study: Study
    """The study at this point, without sweep."""
    seeds: tuple[int, ...]
    draws: tuple[int | None, ...] = (None,)
    """Calibrations drawn from the study's; None alone is the calibration as it is."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One distinct (model, cluster, engine): what fits in it, and how fast it can be at best."""

    title: str
    ledger: str
    ceilings: dict[str, float]
    points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A study that can run."""

    study: Study
    keys: tuple[str, ...]
    """The swept keys, in written order."""
    points: tuple[Point, ...]
    setups: tuple[Setup, ...]
    notes: tuple[str, ...]
    baselines: Mapping[int, int] = field(default_factory=dict)
    """Number of each point, and of the point that it is compared with."""

    @property
    def runs(self) -> int:
        """How many simulations the plan asks for."""
        return sum(len(point.draws) * len(point.seeds) for point in self.points)


def prepare(loaded: Loaded) -> Plan:
    """Check a study, expand its sweep and build every point once, simulating nothing.

    Raises:
        StudyError: everything that is wrong, at once: schema, sweep, unknown names; then what
            only building shows: memory, budgets, traces.
    """
    settings, sweep_faults = expand(loaded.raw.get("sweep"), partial(all_keys, Study, loaded.raw))
    base, filled = loaded.raw, list[Path]()
    study, schema_faults = validate(base)
    if study is None and settings:  # a key that is swept need not stand in the base as well
        base, filled = fill_missing(base, settings[0].values)
        study, schema_faults = validate(base)
    found = faults.merged(schema_faults, faults.references(base))
    # Sweep points tell more about what only the sweep gives, and about the sweep itself.
    known = [fault for fault in found if not _is_swept(fault[0], filled)]
    source = base if study is None else as_written(study.resolved(), base)
    checked = [faults.check(source, setting) for setting in settings]
    known = without_misspelt(known, chain.from_iterable(each for _, each in checked))
    problems = [faults.problem(loaded, base, fault) for fault in [*known, *sweep_faults]]
    problems += faults.point_problems(loaded, settings, [found for _, found in checked], known)
    problems += [*losses(loaded, settings), *loaded.document.problems]
    if study is not None and not problems:
        found_runs = memory.too_many_runs(len(settings), study.calibration_draws, study.seeds)
        problems += [Problem(loaded.where(("seeds",)), found_runs)] if found_runs else []
    if problems or study is None:
        raise StudyError(faults.by_line(problems))
    studies = [point for point, _ in checked if point is not None]
    studies = _settled(loaded, settings, studies)
    idle = list(effects.idle_sweeps(loaded, settings, studies))
    if idle:
        raise StudyError(faults.by_line(idle))
    setups, sources = _build(loaded, settings, studies)
    study = _with_common(study, studies)
    keys = tuple(dict.fromkeys(key for setting in settings for key in setting.values))
    seeds = tuple(range(study.seed, study.seed + study.seeds))
    points = tuple(
        Point(
            number,
            {key: _value(setting, key, point, loaded.raw) for key in keys},
            point,
            seeds if build.is_random(point) else seeds[:1],
            tuple(range(study.calibration_draws)) or (None,),
        )
        for number, (setting, point) in enumerate(zip(settings, studies, strict=True), start=1)
    )
    notes = (
        *loaded.notes,
        *sources,
        *effects.idle_notes(settings, studies),
        *_plugin_notes(studies),
        *_stop_notes(studies),
        *dict.fromkeys(_warmup_notes(studies)),
        *_seed_notes(points, study),
    )
    return Plan(study, keys, points, setups, notes, _baselines(loaded, study, points))


def _baselines(loaded: Loaded, study: Study, points: tuple[Point, ...]) -> dict[int, int]:
    try:
        return baselines([point.values for point in points], study.baseline)
    except ValueError as error:
        where = loaded.where(("baseline",))
        raise StudyError([Problem(where, f"baseline = {show(study.baseline)}: {error}")]) from None


def _is_swept(path: Path, filled: list[Path]) -> bool:
    return path[:1] == ("sweep",) or any(path[: len(swept)] == swept for swept in filled)


def _value(setting: Setting, key: str, point: Study, raw: Mapping[str, Any]) -> Any:
    """What does not stand in a point has the value of the base study; sections have its words."""
    if key in setting.values:
        return cell(setting.values[key])
    if isinstance(section := raw.get(key, {}), Mapping) and key in SWEEPABLE:
        return cell(section)
    return cell(in_brief(value_at(point.resolved(), key_path(key))))


def _plugin_notes(studies: list[Study]) -> Iterator[str]:
    digests = {each.name: each.sha256 for each in given_plugins()}
    named = (name for study in studies if digests for name in study.own_classes())
    for name in dict.fromkeys(named):
        if digest := digests.get(name.partition(":")[0]):
            yield f"{name} is not headroom's: its code has SHA-256 {digest}"


def _stop_notes(studies: list[Study]) -> Iterator[str]:
    times = dict.fromkeys(f"{one.stop_s:g}" for one in studies if one.stop_s is not None)
    if times:
        yield (
            f"simulated until stop_s = {' or '.join(times)} s: who has no answer by then counts as "
            "unfinished, with infinite latencies"
        )


def _warmup_notes(studies: list[Study]) -> Iterator[str]:
    """Say what is not measured where that is one particular part of a day or a trace."""
    for study in studies:
        if not study.workload.has_clock:
            continue
        share, until_s = study.warmup_share, study.warmup_s
        if until_s:
            yield f"who arrives before warmup_s = {until_s:g} s is not measured"
        elif share:
            yield (
                f"the first {share:.3g} of the requests (warmup_fraction) are not measured, "
                "whatever hours they fall on"
            )
        else:
            yield (
                "measured is from the first request on, when the engine is still empty; warmup_s "
                "leaves a beginning out"
            )


def _seed_notes(points: tuple[Point, ...], study: Study) -> Iterator[str]:
    if (
        study.calibration_draws
        and study.seeds == 1
        and any(build.is_random(point.study) for point in points)
    ):
        yield "one seed: intervals hold the uncertainty of prices, not that of the traffic"
    fixed = [point.number for point in points if len(point.seeds) < study.seeds]
    if not fixed or study.seeds == 1:
        return
    which = "" if len(fixed) == len(points) else f" at point {', '.join(map(str, fixed))}"
    yield f"nothing is random{which}: one seed is run instead of {study.seeds}"


def _settled(loaded: Loaded, settings: list[Setting], studies: list[Study]) -> list[Study]:
    """Give every point numbers for what its version, GPU and model decide."""
    found, problems = [], dict[Problem, list[int]]()
    for number, study in enumerate(studies, start=1):
        try:
            found.append(build.settled(study))
        except ValueError as error:
            where = faults.where_named(loaded, settings[number - 1], str(error))
            problems.setdefault(Problem(where, str(error)), []).append(number)
    if problems:
        raise StudyError(
            faults.at_points(problem, at, settings) for problem, at in problems.items()
        )
    return found


def _with_common(study: Study, points: list[Study]) -> Study:
    """Write the numbers that all points share into the base, which is what results show.

    Where points differ, what was decided for them differs with what they sweep, and the base keeps
    what was given: its version is written down, so that the same is decided again.
    """
    cluster = _common_pools(study.cluster, [point.cluster for point in points])
    changes: dict[str, Any] = {"cluster": cluster}
    if cluster.pools is None:
        engine = _common_settings([point.engine for point in points])
        changes["engine"] = study.engine.model_copy(update=engine)
        calibrations = {point.calibration for point in points}
        if len(calibrations) == 1:
            changes["calibration"] = calibrations.pop()
    return study.model_copy(update=changes)


def _common_pools(base: ClusterConfig, points: list[ClusterConfig]) -> ClusterConfig:
    """Write the same into each pool, where all points have as many pools as the base."""
    count = len(base.pools or ())
    if not count or any(len(point.pools or ()) != count for point in points):
        return base
    pools = []
    for place, pool in enumerate(base.pools or ()):
        of_points = [point.all_pools[place] for point in points]
        engine = pool.engine.model_dump()
        engine |= _common_settings([one.engine for one in of_points])
        changes: dict[str, Any] = {"engine": PoolEngine.model_validate(engine)}
        calibrations = {one.calibration for one in of_points}
        if len(calibrations) == 1:
            changes["calibration"] = calibrations.pop()
        pools.append(pool.model_copy(update=changes))
    return base.model_copy(update={"pools": pools})


def _common_settings(engines: Sequence[EngineConfig]) -> dict[str, Any]:
    """What a version, GPU or model decided alike for all of them."""
    return {
        name: values.pop()
        for name in RESOLVED
        if len(values := {getattr(engine, name) for engine in engines}) == 1
    }


def _build(
    loaded: Loaded, settings: list[Setting], studies: list[Study]
) -> tuple[tuple[Setup, ...], tuple[str, ...]]:
    """Build scenario and requests of every point; say what was read of the files of workloads."""
    problems: dict[Problem, list[int]] = {}
    told: dict[tuple[str, str], Problem] = {}
    made: dict[build.ScenarioKeys, list[Setup]] = {}
    drawn: set[str] = set()
    sources: dict[str, None] = {}

    def fails(number: int, error: ValueError) -> None:
        """Note what only building a point shows; what is alike at several is told once."""
        where = faults.where_named(loaded, settings[number - 1], str(error))
        # Ledgers differ from point to point; what does not fit is told once.
        alike = (where, str(error).split("\n", 1)[0])
        first = told.setdefault(alike, Problem(where, str(error)))
        problems.setdefault(first, []).append(number)

    for number, study in enumerate(studies, start=1):
        try:
            keys = build.scenario_keys(study)
            found = made.get(keys) or [_setup(pool) for pool in build.built(keys).pools]
            if study.calibration_draws:
                build.built(build.scenario_keys(study, 0))
        except ValueError as error:
            fails(number, error)
        else:
            made[keys] = [replace(setup, points=(*setup.points, number)) for setup in found]
        prefixes = with_prefixes(study)
        workload = f"{study.workload.model_dump_json()}\n{study.stop_s}\n{prefixes}"
        if workload in drawn:
            continue
        try:
            requests = requests_of(study, study.seed)
            sources |= dict.fromkeys((*requests.notes, *study.workload.told()))
            drawn.add(workload)
        except ValueError as error:
            fails(number, error)
    if problems:
        raise StudyError(
            faults.at_points(problem, at, settings) for problem, at in problems.items()
        )
    return tuple(chain.from_iterable(made.values())), tuple(sources)


def _setup(pool: Pool) -> Setup:
    gpus = pool.tensor_parallel_size * pool.pipeline_parallel_size
    title = f"{pool.spec.name} on {gpus} x {pool.gpu.name}"
    if pool.name:
        title = f"{called(pool.name)}: {title}"
    if pool.replicas > 1:
        what = "ranks" if pool.data_parallel_size == pool.replicas else "replicas"
        title += f", each of {pool.replicas} {what}"
    return Setup(title, pool.ledger_text(), ceilings_of(pool), ())
