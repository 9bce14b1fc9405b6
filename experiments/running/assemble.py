"""From pieces to the tables of the results folder, and the facts of its manifest.

Everything but ``manifest.json`` is a function of the study alone: the same bytes for any number of
jobs, any interruption, any day.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from experiments.reporting.basis import Asked, Basis
from experiments.reporting.records import Records
from experiments.reporting.support import Load
from experiments.running.identity import code_digest, file_digest
from experiments.running.pieces import read_piece
from experiments.running.pool_tables import calibrations_of
from experiments.running.pooling import pools_of, rates_of
from experiments.running.sweep import Run
from experiments.running.versions import machine, versions
from experiments.study.build import is_random
from experiments.study.plugins import plugin_facts
from experiments.study.points import Plan
from sim.settings.cluster_config import ClusterConfig

if TYPE_CHECKING:
    from pandas import DataFrame

    from hardware.calibration import Calibration


def runs_table(plan: Plan, runs: Sequence[Run]) -> Records:
    """Return one row per run: ``point``, the swept keys, ``draw`` if any, ``seed``, all metrics."""
    values = {point.number: point.values for point in plan.points}
    rows = [
        {
            "point": run.point,
            **values[run.point],
            **run.identity,
            **read_piece(run.path).metrics,
        }
        for run in runs
    ]
    return Records.of(rows)


def summary_table(
    plan: Plan,
    table: Records,
    runs: Sequence[Run],
    loads: Mapping[int, Load | None],
    asked: Mapping[int, Asked],
) -> Records:
    """Return one row per point: the swept keys, then each metric's estimate and interval.

    ``table`` is that of the finished ``runs``; ``loads`` and ``asked`` are by point, as far as they
    are known. What lies beyond a calibration is told here of clusters with one; ``pool_tables`` has
    the rest.
    """
    from experiments.reporting.stats import summarise_points

    found = [calibrations_of(point.study) for point in plan.points]
    bases = [
        Basis(
            each[0] if len(each) == 1 else None,
            pool,
            loads.get(point.number),
            rates_of(point.study),
            asked.get(point.number),
            point.study.slo,
            not is_random(point.study) and not point.draws[1:],
            alike=_alike(point.study.cluster),
        )
        for point, each, pool in zip(plan.points, found, pools_of(runs), strict=True)
    ]
    return summarise_points(table, ["point", *plan.keys], bases=bases)


def _alike(cluster: ClusterConfig) -> int:
    """Replicas that one router chooses among, if they are alike; else 1."""
    return cluster.all_replicas if len(cluster.all_pools) == 1 else 1


def write_csv(table: "Records | DataFrame", path: Path) -> None:
    """Write a table with full precision, NaN as nothing, and the same line ends everywhere."""
    if isinstance(table, Records):
        path.write_text(table.csv(), encoding="utf-8", newline="\n")
    else:
        table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def write_study(plan: Plan, path: Path) -> None:
    """Write the study with every default, so that running this file gives the same tables."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# Resolved: every default is written out. Running this file reproduces the\n")
        file.write("# folder that it lies in.\n")
        write_plain_yaml(plan.study.resolved() | _warmup(plan), file)


def _warmup(plan: Plan) -> dict[str, Any]:
    """Return the share that every point leaves out; nothing where it is swept or differs."""
    shares = {point.study.warmup_share for point in plan.points}
    timed = any(point.study.warmup_s is not None for point in plan.points)
    alike = len(shares) == 1 and not timed and "warmup_fraction" not in plan.keys
    return {"warmup_fraction": shares.pop()} if alike else {}


def write_plain_yaml(data: dict[str, Any], file: TextIO) -> None:
    """Write nested plain data as YAML, keys in their order, one to a line."""
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 10_000
    yaml.dump(data, file)


def facts_of(plan: Plan, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what may differ from run to run: versions, seeds, machine, time; and identities."""
    calibrations = {
        each.name: each for point in plan.points for each in calibrations_of(point.study)
    }
    files = dict.fromkeys(name for point in plan.points for name in point.study.workload.files)
    return {
        "kind": plan.study.kind,
        "points": len(plan.points),
        "runs": len(runs),
        "seeds": sorted({run.seed for run in runs}),
        "notes": list(plan.notes),
        "calibrations": {name: _identity(each) for name, each in calibrations.items()},
        "files": {name: file_digest(name) for name in files},
        "plugins": plugin_facts(),
        "versions": versions(),
        "code_sha256": code_digest(),
        "machine": machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _identity(calibration: "Calibration") -> dict[str, Any]:
    import hashlib

    content = calibration.model_dump_json()
    return {"name": calibration.name, "sha256": hashlib.sha256(content.encode()).hexdigest()}
