"""From a checked study to what is simulated: the scenario, and the requests."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from pathlib import Path

from experiments.study.document import Study
from experiments.study.memory import most_requests
from experiments.study.plugins import given_plugins
from experiments.study.pools import by_pool, naming
from hardware.calibration import Calibration, UnknownCalibrationError, load_calibration
from hardware.engines import (
    AUTO,
    ENGINES,
    best_calibration,
    doubted,
    engine_calibration,
    engine_calibration_names,
    version_of,
)
from hardware.gpu import Gpu, load_gpu
from model.spec import MODEL_FILES, load_spec
from sim.cluster_config import ClusterConfig
from sim.engine_config import EngineConfig, ResolvedEngine, precision_of, resolved
from sim.kv_transfer import KvTransferConfig
from sim.pools import GpuWords, Pool, PoolConfig, PoolEngine, build_pool
from sim.routers.consequences import Routing
from sim.scenario import Scenario, routing_of, scenario_of_pools
from workloads.config import LATEST_S
from workloads.requests import Requests
from workloads.streams import stream
from workloads.workload import Workload, generate

CALIBRATED = "calibrated"
"""What ``cluster.gpu`` says for the device that the calibration describes."""
Stamp = tuple[tuple[int, int] | None, ...]
KEPT_SCENARIOS = 64
KEPT_WORKLOADS = 4
"""What a process keeps, as neighbouring runs often share it."""
LARGE = 100_000
"""Requests of a workload that is generated again rather than kept."""


def scenario_of(study: Study, seed: int, draw: int | None = None) -> Scenario:
    """Build the scenario of one run; the base scenario of a study that sweeps.

    ``draw`` counts the calibrations drawn from the study's, from 0; None is the calibration itself.

    Raises:
        ValueError: unknown model, GPU or calibration, a setting that cannot be served, or a draw
            from a calibration without covariance; the message names the pool, if it has a name.
    """
    scenario = built(scenario_keys(study, draw))
    return replace(scenario, seed=seed, client=study.client)


def settled(study: Study) -> Study:
    """Return a study (of one point) with numbers for what the version, GPU or model decides.

    That is the calibration that ``auto`` means, and every default of the engine, of each pool. A
    version that is not given is that of the calibration, or else the newest.

    Raises:
        ValueError: unknown model, GPU or calibration, or settings that contradict each other.
    """
    found = []
    for pool, alone in by_pool(study):
        with naming(pool):
            found.append(_settled(keys_of(alone)))
    if study.cluster.pools is None:
        engine, calibration = found[0]
        return study.model_copy(update={"engine": engine, "calibration": calibration})
    pools = [
        pool.model_copy(
            update={
                "engine": PoolEngine.model_validate(engine.model_dump()),
                "calibration": calibration,
            }
        )
        for pool, (engine, calibration) in zip(study.cluster.pools, found, strict=True)
    ]
    cluster = study.cluster.model_copy(update={"pools": pools})
    return study.model_copy(update={"cluster": cluster})


Keys = tuple[str, str, str, str, tuple[Stamp, ...], tuple[str, ...]]
"""Model, the cluster of one replica, engine, calibration, the state of the files that they name,
and the digests of modules whose classes they may name."""


@dataclass(frozen=True, slots=True)
class ScenarioKeys:
    """All that a scenario depends on but its seed and its client."""

    pools: tuple[tuple[PoolConfig, Keys], ...]
    """As a study says, with what tells one from another in its numbers."""
    router: str
    router_settings: str
    """As JSON."""
    prefill_router: str | None
    kv_transfer: str | None
    """As JSON."""
    price_seed: int | None
    """With what prices are drawn."""

    def __hash__(self) -> int:
        pools = tuple(keys for _, keys in self.pools)
        return hash((pools, self.router, self.router_settings, self.price_seed))


def scenario_keys(study: Study, draw: int | None = None) -> ScenarioKeys:
    """Return what tells the scenarios of points apart; see ``scenario_of`` for the draw."""
    pools = tuple((pool, keys_of(alone)) for pool, alone in by_pool(study))
    transfer = study.cluster.kv_transfer
    return ScenarioKeys(
        pools,
        study.cluster.router,
        json.dumps(study.cluster.router_settings, sort_keys=True),
        study.cluster.prefill_router,
        None if transfer is None else transfer.model_dump_json(),
        None if draw is None else study.seed + draw,
    )


def keys_of(study: Study) -> Keys:
    """Return what tells the pool of one study (of one pool) from that of another."""
    plain = {"replicas": 1, "router": "round_robin", "router_settings": {}}
    one = study.cluster.model_copy(update=plain)
    return (
        study.model, one.model_dump_json(), study.engine.model_dump_json(), study.calibration,
        (_stamp(study.model), _stamp(study.calibration)),
        tuple(each.sha256 for each in given_plugins()),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _settled(keys: Keys) -> tuple[ResolvedEngine, str]:
    model, cluster, engine, calibration, *_ = keys
    gpu_words = _gpu_words(cluster)
    given = EngineConfig.model_validate_json(engine)
    if given.version is None and (named := version_of(calibration)):
        given = given.model_copy(update={"version": named})
    if names_calibrated(gpu_words):
        gpu = gpu_of(gpu_words, calibration_of(calibration, gpu_words))
    else:
        gpu = load_gpu(gpu_words)
    spec = load_spec(model)
    filled = resolved(given, gpu, spec)
    if calibration.lower() == AUTO:
        calibration = best_calibration(filled.version, gpu, precision_of(filled, spec, gpu).compute)
    return filled, calibration


def _gpu_words(cluster: str) -> GpuWords:
    return ClusterConfig.model_validate_json(cluster).all_pools[0].gpu


@lru_cache(maxsize=KEPT_SCENARIOS)
def built(of: ScenarioKeys) -> Scenario:
    """Return the scenario of a point, with a seed and a client that say nothing."""
    pools = []
    for config, keys in of.pools:
        with naming(config):
            pool = _pool(keys, of.price_seed)
        pools.append(replace(pool, name=config.name, replicas=config.all_ranks, role=config.role))
    return scenario_of_pools(
        tuple(pools),
        of.router,
        json.loads(of.router_settings),
        prefill_router=of.prefill_router,
        kv_transfer=KvTransferConfig.model_validate_json(of.kv_transfer or "{}"),
    )


@lru_cache(maxsize=KEPT_SCENARIOS)
def _pool(keys: Keys, price_seed: int | None) -> Pool:
    """Of one replica: how many there are changes nothing in it."""
    settings, calibration = _settled(keys)
    (config,) = ClusterConfig.model_validate_json(keys[1]).all_pools
    fitted, spec = calibration_of(calibration, config.gpu), load_spec(keys[0])
    if price_seed is not None:
        fitted = drawn(doubted(fitted, spec, settings.version), price_seed)
    return build_pool(config, spec, gpu_of(config.gpu, fitted), settings, fitted)


def gpu_of(gpu: str | dict[str, object], calibration: Calibration) -> Gpu:
    """Load a GPU of the catalogue, of a mapping, or the calibration's own device.

    Raises:
        ValueError: an unknown GPU, or ``calibrated`` with a calibration that holds no device.
    """
    if not names_calibrated(gpu):
        return load_gpu(gpu)
    if calibration.device is not None:
        return calibration.device
    if calibration.gpu is None:
        expected = "expected a calibration file with a device, or a gpu of the catalogue"
    else:
        expected = f"expected the gpu that it was measured on: {calibration.gpu}"
    raise ValueError(
        f"cluster.gpu = {CALIBRATED!r} is the device of the calibration, but calibration "
        f"{calibration.name} holds none, {expected}"
    )


def names_calibrated(gpu: object) -> bool:
    """Tell whether ``cluster.gpu`` asks for the calibration's own device."""
    return isinstance(gpu, str) and gpu.strip().lower() == CALIBRATED


def drawn(calibration: Calibration, price_seed: int) -> Calibration:
    """Draw a calibration; a seed draws alike at every point of a sweep.

    Raises:
        ValueError: the calibration has no covariance.
    """
    if calibration.covariance is None:
        raise ValueError(
            f"calibration = {calibration.name!r} has no covariance to draw from, expected one "
            "that was fitted, or calibration_draws: 0"
        )
    return calibration.draw(stream(price_seed, "prices"))


def _stamp(path: str | Path) -> Stamp:
    """Size and time of change of a file, so that a changed one is read again.

    Of a model's folder it is the config that is read, and what lies beside it and says how the
    weights are stored: a folder does not change with its files.
    """
    file = Path(path)
    files = [file / name for name in MODEL_FILES] if file.is_dir() else [file]
    return tuple(_status(one) for one in files)


def _status(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def calibration_of(calibration: str, gpu: str | dict[str, object]) -> Calibration:
    """Load a calibration by name or path; that of an engine is composed for the GPU.

    Raises:
        ValueError: no such calibration, or none of that engine for that GPU.
    """
    if not names_engine(calibration):
        return load_calibration(calibration)
    if names_calibrated(gpu):
        raise UnknownCalibrationError(
            f"cluster.gpu = {CALIBRATED!r} is the device of a calibration that was measured, but "
            f"calibration = {calibration!r} is one for every GPU, expected a gpu of the catalogue"
        )
    return engine_calibration(calibration, load_gpu(gpu))


def prices_of(study: Study) -> Calibration:
    """Load the calibration of a study (of one point and one pool). Raises ValueError."""
    return calibration_of(settled(study).calibration, study.cluster.all_pools[0].gpu)


def names_engine(calibration: str) -> bool:
    """Tell whether a calibration is an engine's: measured kernels of any GPU, and constants."""
    if calibration.lower() == AUTO:
        return True
    engine, dash, version = calibration.lower().partition("-")
    return engine in ENGINES and (not dash or version[:1].isdigit())


def check_calibration(calibration: str) -> None:
    """Look a name or path up, whatever the GPU. Raises ValueError."""
    if not names_engine(calibration):
        load_calibration(calibration)
    elif calibration.lower() not in (AUTO, *engine_calibration_names()):
        raise UnknownCalibrationError(
            f"calibration = {calibration!r}: expected one of "
            f"{', '.join((AUTO, *engine_calibration_names()))}"
        )


def requests_of(study: Study, seed: int) -> Requests:
    """Generate the requests of one run.

    Raises:
        ValueError: a trace or a length file is missing, broken or empty, or nothing arrives, or
            not before ``stop_s``, or all of it before ``warmup_s``.
    """
    stamps = tuple(_stamp(path) for path in study.workload.files)
    requests = _requests(study.workload.model_dump_json(), seed, with_prefixes(study), stamps)
    if len(requests) > LARGE:
        _requests.cache_clear()
    stop_s, known_s = study.stop_s, requests.known_arrival_s
    if stop_s is not None and len(known_s) and known_s[0] >= stop_s:
        raise ValueError(
            f"stop_s = {stop_s:g} is before any request arrives, expected more than "
            f"{known_s[0]:g} s"
        )
    if study.warmup_s is not None and len(known_s):
        last_s = known_s[known_s <= stop_of(study)][-1]
        if last_s < study.warmup_s:
            raise ValueError(
                f"warmup_s = {study.warmup_s:g} leaves nothing to measure, expected at most "
                f"{last_s:g} s, when the last request arrives"
            )
    return requests


def with_prefixes(study: Study) -> bool:
    """Tell whether somebody needs to know which prompts begin alike."""
    return any(alone.engine.enable_prefix_caching is not False for _, alone in by_pool(study))


@lru_cache(maxsize=KEPT_WORKLOADS)
def _requests(workload: str, seed: int, prefixes: bool, stamps: tuple[Stamp, ...]) -> Requests:
    requests = generate(
        Workload.model_validate_json(workload), seed, prefixes=prefixes, most=most_requests()
    )
    known_s = requests.known_arrival_s
    if len(known_s) and not known_s[-1] <= LATEST_S:
        raise ValueError(
            f"workload: the last request arrives at {known_s[-1]:g} s, expected at most "
            f"{LATEST_S:g} s"
        )
    if not len(requests):
        raise ValueError("workload: no request arrives, expected at least one")
    return requests


def stop_of(study: Study) -> float:
    """Return when the clock stops, seconds; infinity when everybody gets an answer."""
    return inf if study.stop_s is None else study.stop_s


def independent_replicas(study: Study) -> int:
    """Return into how many parts a run can be split: replicas that know nothing of each other."""
    return _routing(study).parts


def is_random(study: Study) -> bool:
    """Tell whether two seeds of this point can differ: in the requests drawn, or in the routing."""
    return study.workload.is_random or _routing(study).random


def claims_caches(study: Study) -> bool:
    """Tell whether the router says of each request what it took to be cached."""
    return _routing(study).claims


def looks_at_nothing(study: Study) -> bool:
    """Tell whether the router sends to replicas without a look at what they can do."""
    return _routing(study).blind


def _routing(study: Study) -> Routing:
    return routing_of(study.cluster, study.client, not study.workload.waits)
