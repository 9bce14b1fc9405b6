"""What a second tier of the KV cache did: columns of requests and replicas, and metrics."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from sim.engine.scheduler import Scheduler
from sim.recording.tape import Column
from sim.settings.pools import Pool
from sim.traffic.outcomes import TIER_BYTES

TIER_COLUMNS = {
    "brought_tokens": "prompt tokens behind the cached ones that were brought from the host's "
    "memory, or a shared store, when it was first admitted",
    "store_tokens": "those of them that a shared store had, and nothing nearer",
    "loading_s": "how long it waited for KV from there; NaN if it still does",
}
"""Further columns of the request table, where a pool has engine.kv_offloading_size, or replicas
share cluster.kv_store."""

TIER_REPLICA_COLUMNS = {
    "host_chunks": "chunks of KV that its host's memory holds at most",
    "host_chunks_kept": "that are there at the end",
    "host_chunks_stored": "copied there",
    "host_chunks_brought": "brought from there",
    "host_chunks_evicted": "that made room for others",
    "host_offers_refused": "offers of a request for which no room could be made",
    "host_link_in_s": "time that the link takes for what was brought, with nothing going out",
    "host_link_out_s": "the same of what was copied there",
}
"""Further columns of the replica table."""

LOAD_WAITS = {
    "load_wait_mean_s": "mean time for which the requests after the warm-up that were brought "
    "something waited for it",
    "load_wait_p99_s": "99th percentile of the same",
}

TIER_METRICS = {
    "host_cache_hit_rate": "share of the prompt tokens, of the requests after the warm-up that "
    "were worked on, that were brought from the host's memory, and were not in a shared store only",
    **LOAD_WAITS,
    "host_cache_use": "share of the chunks of the host's memory that hold KV at the end",
    "host_link_in_share": "time that the link takes for what was brought from the host, over the "
    "run and the replicas",
    "host_link_out_share": "the same of what was copied there",
}
"""Metrics of clusters where a pool has a second tier."""

_ROW = np.dtype(
    [("request", "i4"), ("brought_tokens", "i4"), ("store_tokens", "i4"), ("loading_s", "f8")]
)
assert _ROW.itemsize == TIER_BYTES


@dataclass(frozen=True, slots=True)
class TierCount:
    """A row of ``TIER_REPLICA_COLUMNS``."""

    host_chunks: int
    host_chunks_kept: int
    host_chunks_stored: int
    host_chunks_brought: int
    host_chunks_evicted: int
    host_offers_refused: int
    host_link_in_s: float
    host_link_out_s: float


NO_TIER = TierCount(0, 0, 0, 0, 0, 0, 0.0, 0.0)


def tier_count(scheduler: Scheduler) -> TierCount | None:
    """Return what the second tier of a replica did; None without one."""
    if scheduler.loads is None:
        return None
    from sim.engine.tiers.offloading import Offloading
    from sim.engine.tiers.pipe import IN, OUT

    connector = scheduler.loads.connector
    if not isinstance(connector, Offloading):
        return None
    eviction, busy_s = connector.eviction, connector.pipe.busy_s
    return TierCount(
        eviction.capacity, len(eviction.chunks), connector.stored, connector.brought,
        connector.evicted, connector.refused, busy_s[IN], busy_s[OUT],
    )  # fmt: skip


def have_tiers(pools: Iterable[Pool]) -> bool:
    """Tell whether any pool has a second tier, of its own or shared."""
    return any(pool.host is not None or pool.store is not None for pool in pools)


def tier_outcomes(rows: int) -> dict[str, Column]:
    """Return the columns of requests that nothing is known of."""
    return {
        "brought_tokens": np.zeros(rows, dtype=np.int32),
        "store_tokens": np.zeros(rows, dtype=np.int32),
        "loading_s": np.zeros(rows, dtype=np.float64),
    }


def keep_rows(buffer: bytearray, columns: Mapping[str, Column]) -> None:
    """Move rows of requests from their buffer to the columns."""
    table = np.frombuffer(bytes(buffer), _ROW)
    buffer.clear()
    for name in ("brought_tokens", "store_tokens"):
        columns[name][table["request"]] = table[name]
    waits = table["loading_s"]
    columns["loading_s"][table["request"]] = np.where(waits < 0, np.nan, waits)


def replica_columns(counts: SequenceOf[TierCount | None]) -> dict[str, Column]:
    """Return a row for each replica; nothing if none has a second tier."""
    if not any(counts):
        return {}
    return counted(TIER_REPLICA_COLUMNS, [each or NO_TIER for each in counts])


def counted(names: Iterable[str], rows: SequenceOf[object]) -> dict[str, Column]:
    """Return fields of rows as columns: seconds as floats, anything else as whole numbers."""
    return {
        name: np.array(
            [getattr(row, name) for row in rows],
            dtype=np.float64 if name.endswith("_s") else np.int64,
        )
        for name in names
    }


def tier_metrics(
    requests: Mapping[str, Column],
    replicas: Mapping[str, Column],
    measured: npt.NDArray[np.bool_],
    length_s: float,
) -> dict[str, float]:
    """Compute ``TIER_METRICS``; nothing if no replica has a second tier."""
    if "host_chunks" not in replicas:
        return {}
    begun = measured & ~np.isnan(requests["first_scheduled_s"])
    brought = requests["brought_tokens"][begun] - requests["store_tokens"][begun]
    own = replicas["host_chunks"] > 0
    span_s = length_s * float(own.sum())
    asked = float(requests["prompt_tokens"][begun].sum(dtype=np.int64))
    nothing = float("nan")
    return {
        "host_cache_hit_rate": float(brought.sum(dtype=np.int64)) / asked if asked else nothing,
        **load_waits(requests, begun),
        "host_cache_use": float(replicas["host_chunks_kept"].sum() / replicas["host_chunks"].sum()),
        "host_link_in_share": float(replicas["host_link_in_s"].sum()) / span_s,
        "host_link_out_share": float(replicas["host_link_out_s"].sum()) / span_s,
    }


def load_waits(requests: Mapping[str, Column], begun: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Compute ``LOAD_WAITS`` of requests that were worked on."""
    waits = requests["loading_s"][begun]
    waits = waits[waits > 0]
    if not len(waits):
        return dict.fromkeys(LOAD_WAITS, float("nan"))
    return dict(zip(LOAD_WAITS, (waits.mean(), np.percentile(waits, 99)), strict=True))
