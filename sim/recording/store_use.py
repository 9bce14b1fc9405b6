"""What replicas did at a store of KV that they share: columns of replicas, and metrics."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from sim.engine.scheduler import Scheduler
from sim.recording.tape import Column
from sim.recording.tiers import LOAD_WAITS, counted, load_waits
from sim.settings.pools import Pool

STORE_REPLICA_COLUMNS = {
    "store_chunks": "chunks of KV that the shared store holds at most",
    "store_chunks_written": "that this replica wrote there",
    "store_chunks_read": "that it read from there",
    "store_chunks_evicted": "of those that it wrote, that made room for others",
    "store_chunks_refused": "that it did not write for want of room",
    "store_bytes_written": "bytes of what it wrote, of all ranks",
    "store_bytes_read": "bytes of what it read",
    "store_write_s": "time in which it wrote",
    "store_read_s": "time in which it read",
    "store_write_wait_s": "time of its writes, from when each was sent to its end",
    "store_read_wait_s": "the same of what it read",
    "store_write_stall_s": "part of it beyond their latency and their bytes at the rate of its own "
    "link: they waited for one another, or shared the store's",
    "store_read_stall_s": "the same of what it read",
}
"""Further columns of the replica table, where replicas share a store."""

STORE_METRICS = {
    "store_cache_hit_rate": "share of the prompt tokens, of the requests after the warm-up that "
    "were worked on, that were read from the shared store",
    **LOAD_WAITS,
    "store_read_bytes_per_s": "bytes that all replicas read there, per second of the run",
    "store_write_bytes_per_s": "bytes that they wrote there",
    "store_read_share": "share of the run in which a replica read from the store, averaged over "
    "the replicas",
    "store_write_share": "the same of writing",
    "store_read_stall_share": "share of the time from asking for a transfer from the store to its "
    "end in which it waited for others, of its replica or at the store; NaN if nothing was read",
    "store_use": "share of the chunks of the store that hold KV at the end",
}
"""Metrics of clusters whose replicas share a store."""


@dataclass(frozen=True, slots=True)
class StoreCount:
    """A row of ``STORE_REPLICA_COLUMNS``."""

    store_chunks: int
    store_chunks_written: int
    store_chunks_read: int
    store_chunks_evicted: int
    store_chunks_refused: int
    store_bytes_written: int
    store_bytes_read: int
    store_write_s: float
    store_read_s: float
    store_write_wait_s: float
    store_read_wait_s: float
    store_write_stall_s: float
    store_read_stall_s: float


def store_count(scheduler: Scheduler, pool: Pool) -> StoreCount | None:
    """Return what a replica did at the store; None if it shares none."""
    if scheduler.loads is None or pool.store is None:
        return None
    from sim.engine.tiers.remote_store import StoreUser
    from sim.engine.tiers.store_links import READ, WRITE
    from sim.engine.tiers.storing import Storing
    from sim.engine.tiers.tiered import Tiered

    connector = scheduler.loads.connector
    if isinstance(connector, Storing):
        port: StoreUser = connector.port
    elif isinstance(connector, Tiered) and connector.shared is not None:
        port = connector.shared.port
    else:
        return None
    size = pool.store.chunk_bytes
    return StoreCount(
        pool.store.chunks, port.written, port.read, port.evicted, port.refused,
        port.written * size, port.read * size, port.moved_s[WRITE], port.moved_s[READ],
        port.waited_s[WRITE], port.waited_s[READ], port.held_up_s[WRITE], port.held_up_s[READ],
    )  # fmt: skip


def shares_store(pools: Iterable[Pool]) -> bool:
    """Tell whether the replicas of any pool share a store."""
    return any(pool.store is not None for pool in pools)


def store_columns(counts: SequenceOf[StoreCount | None]) -> dict[str, Column]:
    """Return a row for each replica; nothing if none shares a store."""
    rows = [each for each in counts if each is not None]
    return counted([each.name for each in fields(StoreCount)], rows) if rows else {}


def store_metrics(
    requests: Mapping[str, Column],
    replicas: Mapping[str, Column],
    measured: npt.NDArray[np.bool_],
    length_s: float,
) -> dict[str, float]:
    """Compute ``STORE_METRICS``; nothing if replicas share no store."""
    if "store_chunks" not in replicas:
        return {}
    begun = measured & ~np.isnan(requests["first_scheduled_s"])
    asked = float(requests["prompt_tokens"][begun].sum(dtype=np.int64))
    read = float(requests["store_tokens"][begun].sum(dtype=np.int64))
    total = {name: float(column.sum()) for name, column in replicas.items()}
    span_s = length_s * len(replicas["store_chunks"])
    kept = total["store_chunks_written"] - total["store_chunks_evicted"]
    return {
        "store_cache_hit_rate": _ratio(read, asked),
        **load_waits(requests, begun),
        "store_read_bytes_per_s": _ratio(total["store_bytes_read"], length_s),
        "store_write_bytes_per_s": _ratio(total["store_bytes_written"], length_s),
        "store_read_share": _ratio(total["store_read_s"], span_s),
        "store_write_share": _ratio(total["store_write_s"], span_s),
        "store_read_stall_share": _ratio(total["store_read_stall_s"], total["store_read_wait_s"]),
        "store_use": kept / float(replicas["store_chunks"][0]),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
