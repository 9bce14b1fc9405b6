"""From pieces to the tables of the results folder, and the facts of its manifest.

Everything but ``manifest.json`` is a function of the study alone: the same bytes for any number of
jobs, any interruption, any day.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from experiments.reporting.basis import Asked, Basis
from experiments.reporting.records import Records
from experiments.reporting.support import Load
from experiments.running.arrow import array_of
from experiments.running.identity import code_digest, file_digest
from experiments.running.pieces import ROWS, further_columns, read_piece, read_requests
from experiments.running.pool_tables import calibrations_of, with_pools
from experiments.running.pooling import pools_of, rates_of
from experiments.running.sweep import Run
from experiments.running.versions import machine, versions
from experiments.study.build import is_random
from experiments.study.plugins import plugin_facts
from experiments.study.points import Plan
from sim.settings.cluster_config import ClusterConfig

if TYPE_CHECKING:
    import pyarrow as pa
    from pandas import DataFrame
    from pyarrow.parquet import ParquetWriter

    from hardware.calibration import Calibration

PARQUET: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""Times differ from row to row, and zstd packs the rest as well as a dictionary."""


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


class RequestsFile:
    """Every request of every run in one file, which grows while the runs end.

    Runs lie in their order, whenever they end. Short ones share a row group, which is held in
    memory until it has ``ROWS`` requests: two hundred of each point would be slow to write and to
    read. Nothing of the file is kept when something goes wrong: the pieces are.
    ``pools`` name the pool of each replica, by point; they become a column.
    """

    def __init__(
        self, runs: Sequence[Run], path: Path, pools: Mapping[int, Sequence[str]] | None = None
    ) -> None:
        self.path = path
        self._pools = pools
        self._runs = runs
        self._swept = _typed_values({run.point: run.values for run in runs})
        self._further = further_columns(run.study for run in runs)
        self._ended: set[Path] = set()
        self._written = 0
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._writer: ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._writer is not None:
                with suppress(OSError):  # a full disk; whoever needs the file has closed it
                    self._writer.close()
        finally:
            self.path.unlink(missing_ok=True)

    def add(self, run: Run) -> None:
        """Take note that a run has ended; write what is next in line."""
        self._ended.add(run.path)
        while self._written < len(self._runs) and self._runs[self._written].path in self._ended:
            self._write(self._runs[self._written])
            self._written += 1

    def publish(self, path: Path) -> None:
        """Move the file, in which all runs are by now, to its place.

        Raises:
            ValueError: some run has not ended.
        """
        if not self._runs or self._written < len(self._runs):
            raise ValueError(f"{self._written} of {len(self._runs)} runs are there, expected all")
        self._write_held()
        assert self._writer is not None  # every run has requests
        self._writer.close()
        os.replace(self.path, path)

    def _write(self, run: Run) -> None:
        numbers = {name: array_of([value])[0] for name, value in run.identity.items()}
        identity = {**numbers, **self._swept[run.point]}
        for table in read_requests(run.path, identity, self._further):
            if self._pools:
                table = with_pools(table, self._pools[run.point])
            if self._held_rows + len(table) > ROWS:
                self._write_held()
            self._held.append(table)
            self._held_rows += len(table)

    def _write_held(self) -> None:
        """Write one row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._held:
            return
        table = pa.concat_tables(self._held)
        self._held.clear()
        self._held_rows = 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, **PARQUET)
        self._writer.write_table(table, row_group_size=len(table))


def _typed_values(
    points: Mapping[int, Mapping[str, Any]],
) -> dict[int, dict[str, "pa.Scalar[Any]"]]:
    """Values of the swept keys by point, each key with one type at all points."""
    found: dict[int, dict[str, pa.Scalar[Any]]] = {number: {} for number in points}
    for key in next(iter(points.values()), {}):
        values = [swept[key] for swept in points.values()]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            values = [None if value is None else str(value) for value in values]
        for number, value in zip(points, array_of(values), strict=True):
            found[number][key] = value
    return found


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
