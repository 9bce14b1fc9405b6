"""From a checked study to what is simulated: the scenario, and the requests."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from experiments.study import Study
from hardware.calibration import Calibration, load_calibration
from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.scenario import ClusterConfig, EngineConfig, Scenario, build_scenario
from workloads.requests import Requests
from workloads.workload import Workload, generate

RANDOM_ROUTERS = ("random", "power_of_two_choices")
"""Routers that draw."""
Stamp = tuple[int, int] | None
KEPT = 4
"""Scenarios and workloads that a process keeps, as neighbouring runs often share them."""


def scenario_of(study: Study, seed: int) -> Scenario:
    """Build the scenario of one run; the base scenario of a study that sweeps.

    Raises:
        ValueError: unknown model, GPU or calibration, or a setting that cannot be served.
    """
    stamps = (_stamp(study.model), _stamp(study.calibration))
    built = _scenario(
        study.model, study.cluster.model_dump_json(), study.engine.model_dump_json(),
        study.calibration, stamps,
    )  # fmt: skip
    return replace(built, seed=seed)


@lru_cache(maxsize=KEPT)
def _scenario(
    model: str, cluster: str, engine: str, calibration: str, stamps: tuple[Stamp, ...]
) -> Scenario:
    cluster_config = ClusterConfig.model_validate_json(cluster)
    return build_scenario(
        load_spec(model),
        load_gpu(cluster_config.gpu),
        cluster_config,
        EngineConfig.model_validate_json(engine),
        calibration_of(calibration),
    )


def _stamp(path: str | Path) -> Stamp:
    """Size and time of change of a file, so that a changed one is read again."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def calibration_of(calibration: str) -> Calibration:
    """Load a calibration by name or path; none is the datasheet. Raises ValueError."""
    return load_calibration(calibration)


def requests_of(study: Study, seed: int) -> Requests:
    """Generate the requests of one run.

    Raises:
        ValueError: a trace or a length file is missing, broken or empty, or nothing arrives.
    """
    stamps = tuple(_stamp(path) for path in study.workload.files)
    return _requests(study.workload.model_dump_json(), seed, stamps)


@lru_cache(maxsize=KEPT)
def _requests(workload: str, seed: int, stamps: tuple[Stamp, ...]) -> Requests:
    requests = generate(Workload.model_validate_json(workload), seed, None)
    if not len(requests):
        raise ValueError("workload: no request arrives, expected at least one")
    return requests


def is_random(study: Study) -> bool:
    """Tell whether two seeds of this point can differ: in the requests drawn, or in the routing."""
    routed = study.cluster.replicas > 1 and study.cluster.router in RANDOM_ROUTERS
    return study.workload.is_random or routed
