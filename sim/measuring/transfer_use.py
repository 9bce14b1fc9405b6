"""What transfers of KV caches take of a pool: links, bytes under way, blocks that are leased."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.measuring.steady_state import Window
from sim.recording.tape import Column
from sim.settings.pools import PREFILL, Pool

TRANSFER_METRICS = {
    "handovers_per_s": "prompts whose transfer ended in the window, per second",
    "transfer_bytes_per_s": "bytes of these prompts, per second",
    "transfer_share": "share of the window in which a replica had a transfer under way, averaged "
    "over the replicas",
    "transfer_bytes_in_flight": "bytes of the transfers under way, averaged over the window and "
    "the replicas",
    "leased_share": "share of the KV blocks that hold computed prompts which nobody has read yet, "
    "averaged over the window and the replicas; NaN where no prompt is computed for others",
}
"""What pools with a role have besides."""


def transfer_use(
    requests: Mapping[str, Column], pool: Pool, numbers: range, window: Window
) -> dict[str, float]:
    """Return ``TRANSFER_METRICS`` of a pool, from the columns of all requests."""
    prefills = pool.role == PREFILL
    handed = requests["prefill_replica"] >= 0
    owner = requests["prefill_replica" if prefills else "replica"]
    own = handed & (owner >= numbers.start) & (owner < numbers.stop)
    begun, over = (_clipped(requests[name][own], window) for name in ("blocks_s", "loaded_s"))
    length_s = window.length_s
    if not length_s:
        return dict.fromkeys(TRANSFER_METRICS, float("nan"))
    moved = requests["transferred_bytes"][own].astype(np.float64)
    ended = window.holds(requests["loaded_s"][own])
    replica = owner[own]
    busy_s = sum(_union_s(begun[replica == each], over[replica == each]) for each in numbers)
    return {
        "handovers_per_s": float(ended.sum()) / length_s,
        "transfer_bytes_per_s": float(moved[ended].sum()) / length_s,
        "transfer_share": busy_s / (length_s * len(numbers)),
        "transfer_bytes_in_flight": float((moved * (over - begun)).sum())
        / (length_s * len(numbers)),
        "leased_share": _leased_share(requests, own, pool, window) if prefills else float("nan"),
    }


def _leased_share(
    requests: Mapping[str, Column], own: npt.NDArray[np.bool_], pool: Pool, window: Window
) -> float:
    kept_s = _clipped(requests["loaded_s"][own], window)
    kept_s = kept_s - _clipped(requests["prefilled_s"][own], window)
    blocks = pool.num_gpu_blocks * pool.replicas
    return float((requests["kept_blocks"][own] * kept_s).sum()) / (window.length_s * blocks)


def _clipped(time_s: Column, window: Window) -> npt.NDArray[np.float64]:
    """Times within the window; what has not happened lies behind it."""
    happened = np.where(np.isnan(time_s), np.inf, time_s)
    return np.asarray(np.clip(happened, window.start_s, window.stop_s), dtype=np.float64)


def _union_s(begun: npt.NDArray[np.float64], over: npt.NDArray[np.float64]) -> float:
    """Length of the union of intervals."""
    order = np.argsort(begun, kind="stable")
    begun, over = begun[order], np.maximum.accumulate(over[order])
    before = np.concatenate(([-np.inf], over))[:-1]
    return float(np.maximum(over - np.maximum(begun, before), 0.0).sum())
