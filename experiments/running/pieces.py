"""Finished runs, one file each, so that a killed sweep goes on where it stopped.

A piece is the request table of one run as an Arrow file, which is written and read in a tenth of
the time of a Parquet one, with what else there is to tell as JSON in its metadata. It is written
beside its place, sealed with its digest and renamed: what is there is whole, and what has been
damaged since is noticed.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.running.arrow import numbers, values_of
from experiments.running.packed import packed, unpacked
from experiments.running.reached import Reached
from experiments.running.sealed import is_sealed, opened, write_sealed
from experiments.study.build import claims_caches, scenario_of
from experiments.study.document import Study
from experiments.study.requests import requests_of, stop_of
from experiments.study.stamps import Stamp, stamp
from model.dataclass import dataclass
from sim.measuring.binding import binding
from sim.measuring.metrics import measured, measured_pools
from sim.measuring.replica_use import replica_use
from sim.measuring.routing_metrics import by_replica
from sim.measuring.slo import WINDOW_S, attainments, windows
from sim.measuring.steady_state import measured_window
from sim.measuring.timeline import timeline
from sim.recording.handovers import NOT_HANDED_OVER
from sim.recording.result import (
    CLAIM_COLUMNS,
    REQUEST_COLUMNS,
    SESSION_COLUMNS,
    Result,
)
from sim.recording.tape import Column
from sim.settings.scenario import Scenario
from sim.simulation import simulate

SUFFIX = ".arrow"
ROWS = 1 << 16
"""Requests of one batch: as many are held as Arrow at a time. Longer runs are packed."""
KEPT_PIECES = 1024
"""Of so many a process keeps what they tell beside their requests, some 25 KB each."""

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
    """What a run tells beside its requests; each part is read when somebody asks for it."""

    written: Mapping[bytes, bytes]
    """JSON, or columns that are ``packed``, by the name of the part."""

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of ``sim.measuring.metrics``, and of the slo."""
        part: dict[str, float] = self._part(b"metrics")
        return part

    @property
    def timeline(self) -> dict[str, Column]:
        """``sim.measuring.timeline.timeline``."""
        return unpacked(self.written[b"timeline"])

    @property
    def gaps(self) -> dict[int, int]:
        """Token gaps by ``sim.measuring.bins.bin_of``, how many in each bin."""
        columns = unpacked(self.written[b"gaps"])
        return dict(zip(columns["bin"].tolist(), columns["gaps"].tolist(), strict=True))

    @property
    def binding(self) -> dict[str, Column]:
        """``sim.measuring.binding.Binding`` as columns."""
        return unpacked(self.written[b"binding"])

    @property
    def pools(self) -> list[dict[str, float]]:
        """Metrics of each pool, where pools have names."""
        part: list[dict[str, float]] = self._part(b"pools")
        return part

    @property
    def pool_gaps(self) -> list[dict[int, int]]:
        """Token gaps of each."""
        return [dict(pairs) for pairs in self._part(b"pool_gaps")]

    @property
    def replicas(self) -> dict[str, list[float]]:
        """``REPLICAS`` of ``sim.measuring.routing_metrics`` and ``REPLICA_USE`` of
        ``sim.measuring.replica_use`` as columns, where there are several."""
        part: dict[str, list[float]] = self._part(b"replicas")
        return part

    def _part(self, name: bytes) -> Any:
        return json.loads(self.written[name])


BINDING = ("time_s", "replica", "resource")
PARTS = (b"metrics", b"timeline", b"gaps", b"binding", b"pools", b"pool_gaps", b"replicas")
NOTHING = Piece({})
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
        told, kept = NOTHING, {name: known[name] for name in columns}
    else:
        told, kept = _measured(result, scenario, point)
    with _beside(path) as file:
        _write(kept, told, file)


def _measured(result: Result, scenario: Scenario, point: Study) -> tuple[Piece, dict[str, Column]]:
    """Return what there is to tell of a run beside its requests, and their columns."""
    window = measured_window(result, point.warmup_share, point.warmup_s)
    whole = measured(result, scenario, window, point.slo)
    metrics, gaps = whole.metrics, whole.gaps
    if point.slo is not None:
        metrics |= attainments(result.requests, window.measured, point.slo)
        window_s = window_s_of(point)
        if window_s is not None:
            metrics |= windows(result.requests, window.measured, point.slo, window_s)
    replicas: dict[str, Any] = {}
    if scenario.replicas > 1:
        of_each = by_replica(result, window) | replica_use(result, scenario, window)
        replicas = {name: values.tolist() for name, values in of_each.items()}
    named = point.cluster.pools is not None
    pools = measured_pools(result, scenario, window, point.slo) if named else []
    bound = binding(result, scenario, window)
    written = {
        b"metrics": _json(metrics),
        b"timeline": packed(timeline(result)),
        b"gaps": packed({"bin": np.array(list(gaps)), "gaps": np.array(list(gaps.values()))}),
        b"binding": packed({name: getattr(bound, name) for name in BINDING}),
        b"pools": _json([each.metrics for each in pools]),
        b"pool_gaps": _json([list(each.gaps.items()) for each in pools]),
        b"replicas": _json(replicas),
    }
    names = [*REQUEST_COLUMNS, *filter(result.requests.__contains__, FURTHER)]
    columns = {name: result.requests[name] for name in names}
    columns["measured"] = window.measured.astype(np.int8)
    return Piece(written), columns


def window_s_of(point: Study) -> float | None:
    """Return the length of the windows that the slo of a point is judged by; None for none."""
    if point.slo is None:
        return None
    return point.slo.window_s or (WINDOW_S if point.workload.has_clock else None)


def _json(part: object) -> bytes:
    return json.dumps(part).encode()


def put(path: Path, piece: bytes) -> None:
    """Keep a piece that another machine has made."""
    with _beside(path) as file:
        file.write_bytes(piece)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a place to write to; what was written there is then renamed to ``path``."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write(columns: Mapping[str, Column], told: Piece, path: Path) -> None:
    """Write the requests, one batch after the other."""
    schema = pa.schema(
        [(name, pa.from_numpy_dtype(column.dtype)) for name, column in columns.items()],
        dict(told.written),
    )
    rows = len(next(iter(columns.values())))

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, ROWS):
            arrays = [numbers(column[start : start + ROWS]) for column in columns.values()]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    write_sealed(path, schema, batches(), long=rows > ROWS)


def is_whole(path: Path) -> bool:
    """Tell whether a piece is there as it was written: a power cut can leave less, a disk others.

    One that another version of this program wrote may be unreadable all the same.
    """
    try:
        if not is_sealed(path):
            return False
        read_piece(path)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False
    return True


def read_piece(path: Path) -> Piece:
    """Read what a piece tells beside its request table; half a dozen tables ask for it.

    Raises:
        KeyError: it is one of another version.
    """
    return _told(path, stamp(path))


@lru_cache(maxsize=KEPT_PIECES)
def _told(path: Path, _: Stamp) -> Piece:
    with opened(path) as file:
        written = dict(file.schema.metadata or {})
    if written.keys() not in (set(PARTS), set()):
        raise KeyError(f"{path} holds {sorted(written)}, expected {sorted(PARTS)}")
    return Piece(written)


def read_columns(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Column]]:
    """Read columns of the request table of a piece, one by one where they are long.

    Raises:
        KeyError: there is no such column.
    """
    names = list(dict.fromkeys(names))
    with opened(path) as file:
        places = [file.schema.get_field_index(name) for name in names]
        if -1 in places:
            raise KeyError(f"{path} holds {file.schema.names}, expected {names}")
        if file.num_record_batches == 1:
            batch = file.get_batch(0)
            for name, place in zip(names, places, strict=True):
                yield name, np.from_dlpack(batch.column(place))
            return
    for name, place in zip(names, places, strict=True):
        with opened(path, [place]) as file:
            yield name, values_of(file.read_all().column(0))


def read_requests(path: Path) -> Iterator[dict[str, Column]]:
    """Read the request table of a piece, as numpy sees it, batch by batch."""
    with opened(path) as file:
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            columns = zip(batch.schema.names, batch.columns, strict=True)
            yield {name: np.from_dlpack(column) for name, column in columns}
