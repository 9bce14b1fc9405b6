"""Finished runs, one file each, so that a killed sweep goes on where it stopped.

A piece is the request table of one run as Parquet, its metrics and timeline as JSON in the file's
metadata. It is written beside its place and renamed into it, after a file with its digest: what is
there is whole, and what has been damaged since is noticed.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.running.arrow import chosen, numbers, values_of
from experiments.running.identity import file_digest
from experiments.running.reached import Reached
from experiments.study.build import claims_caches, scenario_of
from experiments.study.document import Study
from experiments.study.requests import requests_of, stop_of
from sim.measuring.binding import binding
from sim.measuring.latencies import gap_counts
from sim.measuring.metrics import summarise, summarise_pools
from sim.measuring.replica_use import replica_use
from sim.measuring.routing_metrics import by_replica
from sim.measuring.slo import WINDOW_S, attainments, windows
from sim.measuring.steady_state import Window, measured_window
from sim.measuring.timeline import timeline
from sim.recording.handovers import NOT_HANDED_OVER
from sim.recording.result import (
    CLAIM_COLUMNS,
    REQUEST_COLUMNS,
    SESSION_COLUMNS,
    STATUS_NAMES,
    Result,
)
from sim.recording.tape import Column
from sim.settings.scenario import Scenario
from sim.simulation import simulate

_RECORD = b"headroom"
ROWS = 1 << 16
"""Requests of one row group: as many are held as Parquet at a time."""
PARQUET: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""Times differ from row to row, and zstd packs the rest as well as a dictionary."""

MARKS = {
    "measured": "1 if it arrived after the warm-up, so that figures rest on it",
    "status_name": "status in words",
}
"""Columns of requests in a file, behind those of ``sim.recording.result.REQUEST_COLUMNS``."""


FURTHER: dict[str, np.generic] = {
    **dict.fromkeys(SESSION_COLUMNS, np.int64(-1)),
    **NOT_HANDED_OVER,
    **dict(zip(CLAIM_COLUMNS, (np.int32(-1), np.float32(np.nan)), strict=True)),
}
"""Columns that some runs have behind those, and what stands there where others of a study do."""


def further_columns(studies: Iterable[Study]) -> set[str]:
    """Return those of ``FURTHER`` that some of these studies (of one point) have."""
    found: set[str] = set()
    for study in studies:
        if study.workload.has_sessions:
            found.update(SESSION_COLUMNS)
        if study.cluster.has_roles:
            found.update(NOT_HANDED_OVER)
        if claims_caches(study):
            found.update(CLAIM_COLUMNS)
    return found


@dataclass(frozen=True, slots=True)
class Piece:
    """The outcome of one run."""

    metrics: dict[str, float]
    timeline: dict[str, list[float]]
    gaps: dict[int, int]
    """Token gaps by ``sim.measuring.bins.bin_of``, how many in each bin."""
    binding: dict[str, list[float]]
    """``sim.measuring.binding.Binding`` as columns."""
    pools: list[dict[str, float]]
    """Metrics of each pool, where pools have names."""
    pool_gaps: list[dict[int, int]]
    """Token gaps of each."""
    replicas: dict[str, list[float]]
    """``REPLICAS`` of ``sim.measuring.routing_metrics`` and ``REPLICA_USE`` of
    ``sim.measuring.replica_use`` as columns, where there are several."""


NOTHING = Piece({}, {}, {}, {}, [], [], {})
"""What is told of a run of which nobody wants more than columns of its requests."""


def simulate_to(
    path: Path, point: Study, seed: int, draw: int | None = None, columns: tuple[str, ...] = ()
) -> None:
    """Simulate one run of a point and keep its outcome as the piece at ``path``: see ``keep``."""
    scenario = scenario_of(point, seed, draw)
    requests = requests_of(point, seed)
    scratch = Reached(path, requests)
    try:
        keep(path, simulate(scenario, requests, stop_of(point), scratch), scenario, point, columns)
    finally:
        scratch.forget()


def keep(
    path: Path, result: Result, scenario: Scenario, point: Study, columns: tuple[str, ...] = ()
) -> None:
    """Keep the outcome of a run as the piece at ``path``: measured, with all of its requests.

    Or only these ``columns`` of the request table, which is a fifth of the time of a short run.
    """
    if columns:
        window = measured_window(result, point.warmup_share, point.warmup_s)
        known = {**result.requests, "measured": window.measured.astype(np.int8)}
        record, kept = asdict(NOTHING), {name: known[name] for name in columns}
    else:
        record, kept = _measured(result, scenario, point)
    with _beside(path) as file:
        _write(kept, {_RECORD: json.dumps(record)}, file)


def _measured(
    result: Result, scenario: Scenario, point: Study
) -> tuple[dict[str, Any], dict[str, Column]]:
    """Return what there is to tell of a run beside its requests, and their columns."""
    window = measured_window(result, point.warmup_share, point.warmup_s)
    measured = (result, scenario, point.slo, point.warmup_share, point.warmup_s)
    metrics = summarise(*measured)
    if point.slo is not None:
        metrics |= attainments(result.requests, window.measured, point.slo)
        window_s = window_s_of(point)
        if window_s is not None:
            metrics |= windows(result.requests, window.measured, point.slo, window_s)
    record: dict[str, Any] = {
        "metrics": metrics,
        "timeline": {name: values.tolist() for name, values in timeline(result).items()},
        "gaps": gap_counts(result, window),
        "binding": _binding(result, scenario, window),
        "pools": [],
        "pool_gaps": [],
        "replicas": {},
    }
    if scenario.replicas > 1:
        of_each = by_replica(result, window) | replica_use(result, scenario, window)
        record["replicas"] = {name: values.tolist() for name, values in of_each.items()}
    if point.cluster.pools is not None:
        parts = [result.of_replicas(numbers) for numbers in scenario.numbers]
        record["pools"] = summarise_pools(*measured)
        record["pool_gaps"] = [gap_counts(part, window) for part in parts]
    names = [*REQUEST_COLUMNS, *filter(result.requests.__contains__, FURTHER)]
    columns = {name: result.requests[name] for name in names}
    columns["measured"] = window.measured.astype(np.int8)
    return record, columns


def window_s_of(point: Study) -> float | None:
    """Return the length of the windows that the slo of a point is judged by; None for none."""
    if point.slo is None:
        return None
    return point.slo.window_s or (WINDOW_S if point.workload.has_clock else None)


def _binding(result: Result, scenario: Scenario, window: Window) -> dict[str, list[float]]:
    found = binding(result, scenario, window)
    return {
        "time_s": found.time_s.tolist(),
        "replica": found.replica.tolist(),
        "resource": found.resource.tolist(),
    }


def put(path: Path, piece: bytes) -> None:
    """Keep a piece that another machine has made."""
    with _beside(path) as file:
        file.write_bytes(piece)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a place to write to; what was written there is then renamed to ``path``."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    digest = path.with_suffix(".sha256")
    digest_beside = digest.with_name(f"{digest.name}.{os.getpid()}.tmp")
    try:
        yield beside
        digest_beside.write_text(file_digest(beside), encoding="ascii")
        os.replace(digest_beside, digest)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
        digest_beside.unlink(missing_ok=True)


def _write(columns: Mapping[str, Column], metadata: dict[bytes, str], path: Path) -> None:
    """Write the requests, one row group after the other."""
    schema = pa.schema(
        [(name, pa.from_numpy_dtype(column.dtype)) for name, column in columns.items()], metadata
    )
    with pq.ParquetWriter(path, schema, **PARQUET) as writer:
        for start in range(0, len(next(iter(columns.values()))), ROWS):
            rows = slice(start, start + ROWS)
            arrays = [numbers(column[rows]) for column in columns.values()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def is_whole(path: Path) -> bool:
    """Tell whether a piece is there as it was written: a power cut can leave less, a disk others.

    One that another version of this program wrote may be unreadable all the same.
    """
    try:
        if path.with_suffix(".sha256").read_text(encoding="ascii") != file_digest(path):
            return False
        read_piece(path)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False
    return True


def read_piece(path: Path) -> Piece:
    """Read the metrics and timeline of a piece, without its request table."""
    metadata: dict[bytes, Any] = pq.read_schema(path).metadata
    record = json.loads(metadata[_RECORD])
    return Piece(
        record["metrics"], record["timeline"], _counts(record["gaps"]), record["binding"],
        record["pools"], list(map(_counts, record["pool_gaps"])), record["replicas"],
    )  # fmt: skip


def _counts(gaps: dict[str, int]) -> dict[int, int]:
    """JSON has no numbers as keys."""
    return {int(number): count for number, count in gaps.items()}


def read_columns(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Column]]:
    """Read columns of the request table of a piece, one by one where they are long."""
    with pq.ParquetFile(path) as file:
        short = file.num_row_groups == 1
        names = list(dict.fromkeys(names))
        for together in [names] if short else [[name] for name in names]:
            table = file.read(columns=together, use_threads=False)
            for name in together:
                yield name, values_of(table.column(name))


def read_requests(
    path: Path, identity: Mapping[str, pa.Scalar], further: Collection[str] = ()
) -> Iterator[pa.Table]:
    """Read the requests of a piece by row group, ``identity`` (point, draw, seed, keys) in front.

    Behind them stands what ``status`` means, in words. ``further`` names columns of ``FURTHER``
    that other points of the study have.
    """
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group).replace_schema_metadata(None)
            place = table.column_names.index("measured")
            for name, missing in FURTHER.items():
                if name in table.column_names:
                    place = table.column_names.index(name) + 1
                elif name in further:
                    none = numbers(np.repeat(missing, table.num_rows))
                    table = table.add_column(place, name, none)
                    place += 1
            for name, value in reversed(list(identity.items())):
                table = table.add_column(0, name, pa.repeat(value, table.num_rows))
            words = chosen(STATUS_NAMES, values_of(table.column("status")))
            yield table.append_column("status_name", words)
