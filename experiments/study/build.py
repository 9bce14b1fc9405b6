"""From a checked study to the scenario that is simulated."""

import json
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel

from experiments.study.calibrations import calibration_of, drawn, gpu_of, names_calibrated
from experiments.study.document import Study
from experiments.study.plugins import given_plugins
from experiments.study.pools import by_pool, naming
from experiments.study.stamps import Stamp, stamp
from hardware.calibration import Calibration
from hardware.engines.constants import AUTO, best_calibration, doubted, version_of
from hardware.gpu import load_gpu
from model.dataclass import dataclass
from model.same import Same
from model.spec import load_spec
from sim.routers.consequences import Routing
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig, precision_of
from sim.settings.kv_store import KvStoreConfig
from sim.settings.kv_transfer import KvTransferConfig
from sim.settings.longest_request import with_longest_that_fits
from sim.settings.pool_building import build_pool
from sim.settings.pools import GpuWords, Pool, PoolConfig, PoolEngine
from sim.settings.resolved_engine import ResolvedEngine
from sim.settings.scenario import Scenario, routing_of, scenario_of_pools

Config = TypeVar("Config", bound=BaseModel)

KEPT_SCENARIOS = 64
"""What a process keeps, as neighbouring runs often share it."""
KEPT_STUDIES = 1024
"""Points of which a process keeps what it has written down: it is asked for a dozen times."""


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
        given = {"engine": _engine(Same(engine)), "calibration": calibration}
        return study.model_copy(update=given)
    pools = [
        pool.model_copy(
            update={
                "engine": PoolEngine.model_construct(**dict(engine)),
                "calibration": calibration,
            }
        )
        for pool, (engine, calibration) in zip(study.cluster.pools, found, strict=True)
    ]
    cluster = study.cluster.model_copy(update={"pools": pools})
    return study.model_copy(update={"cluster": cluster})


def longest_that_fits(study: Study) -> int | None:
    """Return the longest request of one pool if none is stated and less than the model's fits."""
    unstated = study.engine.model_copy(update={"max_model_len": None})
    longest = settled(study.model_copy(update={"engine": unstated})).engine.max_model_len
    return longest if longest != load_spec(study.model).max_model_len else None


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
    kv_store: str | None
    """As JSON."""
    price_seed: int | None
    """With what prices are drawn."""

    def __hash__(self) -> int:
        pools = tuple(keys for _, keys in self.pools)
        return hash((pools, self.router, self.router_settings, self.price_seed))


def scenario_keys(study: Study, draw: int | None = None) -> ScenarioKeys:
    """Return what tells the scenarios of points apart; see ``scenario_of`` for the draw."""
    pools = tuple((pool, keys_of(alone)) for pool, alone in by_pool(study))
    transfer, store = study.cluster.kv_transfer, study.cluster.kv_store
    return ScenarioKeys(
        pools,
        study.cluster.router,
        json.dumps(study.cluster.router_settings, sort_keys=True),
        study.cluster.prefill_router,
        None if transfer is None else transfer.model_dump_json(),
        None if store is None else store.model_dump_json(),
        None if draw is None else study.seed + draw,
    )


def keys_of(study: Study) -> Keys:
    """Return what tells the pool of one study (of one pool) from that of another."""
    return (
        study.model, _one_replica(Same(study.cluster)), _written(Same(study.engine)),
        study.calibration,
        (stamp(study.model), stamp(study.calibration)),
        tuple(each.sha256 for each in given_plugins()),
    )  # fmt: skip


@lru_cache(maxsize=KEPT_STUDIES)
def _one_replica(cluster: Same[ClusterConfig]) -> str:
    plain = {"replicas": 1, "router": "round_robin", "router_settings": {}, "kv_store": None}
    return cluster.value.model_copy(update=plain).model_dump_json()


@lru_cache(maxsize=KEPT_STUDIES)
def _written(engine: Same[EngineConfig]) -> str:
    return engine.value.model_dump_json()


@lru_cache(maxsize=64)
def _engine(resolved: Same[ResolvedEngine]) -> EngineConfig:
    """The settings as a study has them; points that have them in common share them."""
    return EngineConfig.model_construct(**dict(resolved.value))


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
    pool = ClusterConfig.model_validate_json(cluster).all_pools[0]
    filled = with_longest_that_fits(
        given, spec, gpu,
        tp=pool.tensor_parallel_size,
        dp=pool.data_parallel_size,
        pp=pool.pipeline_parallel_size,
    )  # fmt: skip
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
        kv_transfer=_read(KvTransferConfig, of.kv_transfer),
        kv_store=_read(KvStoreConfig, of.kv_store),
    )


def _read(model: type[Config], written: str | None) -> Config | None:
    return None if written is None else model.model_validate_json(written)


@lru_cache(maxsize=KEPT_SCENARIOS)
def _pool(keys: Keys, price_seed: int | None) -> Pool:
    """Of one replica: how many there are changes nothing in it."""
    settings, calibration = _settled(keys)
    (config,) = ClusterConfig.model_validate_json(keys[1]).all_pools
    fitted, spec = calibration_of(calibration, config.gpu), load_spec(keys[0])
    if price_seed is not None:
        kv_bytes = precision_of(settings, spec, gpu_of(config.gpu, fitted)).kv_bytes
        fitted = drawn(doubted(fitted, spec, settings.version, kv_bytes), price_seed)
    return build_pool(config, spec, gpu_of(config.gpu, fitted), settings, fitted)


def prices_of(study: Study) -> Calibration:
    """Load the calibration of a study (of one point and one pool). Raises ValueError."""
    return _prices(keys_of(study))


@lru_cache(maxsize=KEPT_SCENARIOS)
def _prices(keys: Keys) -> Calibration:
    return calibration_of(_settled(keys)[1], _gpu_words(keys[1]))


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
    return _routing_of(Same(study))


@lru_cache(maxsize=KEPT_STUDIES)
def _routing_of(of: Same[Study]) -> Routing:
    """Each point of a sweep is asked for half a dozen times."""
    study = of.value
    engines = [study.engine, *(pool.engine for pool in study.cluster.all_pools)]
    shared = any(engine.api_shared_loop for engine in engines if engine is not None)
    return routing_of(study.cluster, study.client, not study.workload.waits, shared)
