"""What a result depends on: source code, files, libraries; and the key of one run."""

import hashlib
import json
import sys
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path

from experiments.running.versions import installed_version
from experiments.study.build import ScenarioKeys, built, scenario_keys
from experiments.study.document import Study
from experiments.study.plugins import given_plugins
from hardware.calibration import Calibration
from model.same import Same
from model.sources import sources_digest

SIMULATED = ("model", "hardware", "workloads", "sim")
"""Packages whose code decides what a run leaves behind."""
NOT_OF_A_RUN = (
    "name", "description", "sweep", "seeds", "seed", "calibration_draws", "precision",
    "baseline",
)  # fmt: skip
"""Keys of a study that no single run depends on."""


_JSON = json.JSONEncoder(sort_keys=True)


@cache
def code_digest() -> str:
    """Return the SHA-256 of the simulating packages' source and data, names included."""
    return digest_of([sources_digest(package) for package in SIMULATED])


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_key(point: Study, seed: int, draw: int | None = None) -> str:
    """Return the name under which the outcome of one run is kept.

    It changes with everything that the outcome depends on: see ``run_identity``.
    """
    return digest_of(run_identity(point, seed, draw))[:32]


def run_identity(point: Study, seed: int, draw: int | None = None) -> dict[str, str]:
    """Return a digest of each thing that the outcome of a run depends on.

    The resolved point, the content of the model, GPU and calibration that it names (as drawn, if it
    is), the files of its workload, the seed, the draw, the code, also of one's own, the libraries.
    """
    content = {
        "point": {key: value for key, value in point.resolved().items() if key not in NOT_OF_A_RUN},
        "seed": seed,
        "draw": draw,
        "files": [file_digest(path) for path in point.workload.files],
        "plugins": {each.name: each.sha256 for each in given_plugins()},
    }
    named = _of_scenario(scenario_keys(point, draw)) | _of_process()
    return named | {name: digest_of(value) for name, value in content.items()}


@cache
def _of_process() -> dict[str, str]:
    """Digests of what all runs share: code, libraries whose numbers go into a result, machine."""
    content = {
        "code": code_digest(),
        "versions": {name: installed_version(name) for name in ("numpy", "simpy")},
        "byteorder": sys.byteorder,
    }
    return {name: digest_of(value) for name, value in content.items()}


@lru_cache(maxsize=64)
def _of_scenario(keys: ScenarioKeys) -> dict[str, str]:
    """Digests of what is named in a study: many runs share it."""
    scenario = built(keys)
    return {
        "model": digest_of(asdict(scenario.spec)),
        "gpu": digest_of([repr(pool.gpu) for pool in scenario.pools]),
        "calibration": _of_calibrations(tuple(Same(pool.calibration) for pool in scenario.pools)),
    }


@lru_cache(maxsize=64)
def _of_calibrations(pools: tuple[Same[Calibration], ...]) -> str:
    """Most points of a sweep share theirs, whose thousands of numbers take longer than a run."""
    return digest_of([each.value.model_dump_json() for each in pools])


def digest_of(content: object) -> str:
    """Return the SHA-256 of plain data."""
    return hashlib.sha256(_JSON.encode(content).encode()).hexdigest()
