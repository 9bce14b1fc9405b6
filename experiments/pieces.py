"""Finished runs, one file each, so that a killed sweep goes on where it stopped.

A piece is the request table of one run as Parquet, its metrics and timeline as JSON in the file's
metadata. It is written beside its place and renamed into it, so what is there is whole.
"""

import json
import os
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.build import requests_of, scenario_of
from experiments.study import Study
from sim.metrics import summarise, timeline
from sim.result import REQUEST_COLUMNS
from sim.simulation import simulate

_RECORD = b"headroom"


@dataclass(frozen=True, slots=True)
class Piece:
    """The outcome of one run."""

    metrics: dict[str, float]
    timeline: dict[str, list[float]]


def simulate_to(path: Path, point: Study, seed: int, draw: int | None = None) -> None:
    """Simulate one run of a point and keep its outcome as the piece at ``path``."""
    scenario = scenario_of(point, seed, draw)
    stop_s = inf if point.stop_s is None else point.stop_s
    result = simulate(scenario, requests_of(point, seed), stop_s)
    record = {
        "metrics": summarise(result, scenario, point.slo, point.warmup_fraction),
        "timeline": {name: values.tolist() for name, values in timeline(result).items()},
    }
    table = pa.table({name: result.requests[name] for name in REQUEST_COLUMNS})
    table = table.replace_schema_metadata({_RECORD: json.dumps(record)})
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, beside, compression="zstd")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Tell whether a piece is there and readable: a power cut can leave less than was written."""
    try:
        read_piece(path)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False
    return True


def read_piece(path: Path) -> Piece:
    """Read the metrics and timeline of a piece, without its request table."""
    metadata: dict[bytes, Any] = pq.read_schema(path).metadata
    record = json.loads(metadata[_RECORD])
    return Piece(record["metrics"], record["timeline"])


def read_requests(path: Path, **identity: int) -> pa.Table:
    """Read the request table of a piece, columns ``identity`` (point, draw, seed) in front."""
    table = pq.read_table(path).replace_schema_metadata(None)
    rows = table.num_rows
    for name, value in reversed(identity.items()):
        table = table.add_column(0, name, pa.repeat(pa.scalar(value, pa.int64()), rows))
    return table
