"""What limits an engine at a moment: room in the cache, seats, tokens of a step, or the hardware.

Where requests wait for their first step, it is what keeps the next of them from starting: blocks of
the KV cache, seats of the running batch, or tokens of a step. Otherwise it is what the step in
progress takes longest for: the host (scheduling, launches), or on the GPU the longer of arithmetic
and memory traffic at the datasheet's peaks. Moments are spread evenly over the measured window.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hardware.steps.cost import StepCost
from model.dataclass import dataclass
from model.same import Same
from sim.measuring.steady_state import Window
from sim.recording.blocks import blocks
from sim.recording.result import Result
from sim.settings.pools import Pool
from sim.settings.scenario import Scenario

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RESOURCES = ("idle", "kv_blocks", "seats", "token_budget", "arithmetic", "bandwidth", "host")
MOMENTS = 400
"""In all; every one looks at one replica, in turn."""
FULL = 0.98
"""Share of the blocks in use from which on a waiting request is said to lack some."""
KEPT_TABLES = 16
"""What the host takes, by setup: many points share one."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What limited which replica when."""

    time_s: Floats
    replica: Ints
    resource: Ints
    """Place in ``RESOURCES``."""

    def shares(self) -> dict[str, float]:
        """Share of the moments that each resource was what limits; NaN without any."""
        counts = np.bincount(self.resource, minlength=len(RESOURCES))
        total = int(counts.sum())
        return {
            name: count / total if total else float("nan")
            for name, count in zip(RESOURCES, counts.tolist(), strict=True)
        }


def binding(result: Result, scenario: Scenario, window: Window) -> Binding:
    """Look at a run at moments of its window."""
    count = MOMENTS if window.length_s > 0 else 0
    time_s = window.start_s + (np.arange(count) + 0.5) / MOMENTS * window.length_s
    pools = [pool for pool in scenario.pools for _ in range(pool.replicas)]
    replica = np.arange(count) % len(pools)
    resource = np.zeros(count, dtype=np.int64)
    waiting = _waiting(result, replica, time_s)
    for block in blocks(result):
        here = np.flatnonzero(replica == block.replica)
        place = np.searchsorted(block.floats("start_s"), time_s[here], side="right") - 1
        seen = (place >= 0) & (block.floats("end_s")[place] > time_s[here])
        rows = {name: block.ints(name)[place[seen]] for name in _COUNTS}
        step_s = (block.floats("end_s") - block.floats("start_s"))[place[seen]] / rows["steps"]
        at = here[seen]
        pool = pools[block.replica]
        resource[at] = _longest(rows, pool, step_s)
        if waiting[at].any():
            resource[at] = np.where(waiting[at], _kept_out(rows, pool, resource[at]), resource[at])
    return Binding(time_s, replica.astype(np.int64), resource)


_COUNTS = ("steps", "decodes", "padding", "chunks", "prefill_tokens", "kv_blocks")


def _waiting(result: Result, replica: Ints, time_s: Floats) -> npt.NDArray[np.bool_]:
    """Whether anybody waited for a first step at these moments, each on its replica."""
    moments = np.arange(len(time_s))
    came, begun = (each[replica, moments] for each in _queues(result, time_s))
    waiting: npt.NDArray[np.bool_] = came > begun
    return waiting


def _queues(result: Result, time_s: Floats) -> tuple[Ints, Ints]:
    """How many had come to each replica, and left its queue, at ascending times.

    Who is computed in two places waits in the first for its first step, in the second for blocks.
    Who gives up leaves the queue that it is in.
    """
    requests, owner = result.requests, result.requests["replica"]
    places = [(owner, "reached_s", "first_scheduled_s")]
    if "prefill_replica" in requests:
        apart = requests["prefill_replica"] >= 0
        places = [
            (np.where(apart, requests["prefill_replica"], owner), "reached_s", "first_scheduled_s"),
            (np.where(apart, owner, -1), "handed_s", "blocks_s"),
        ]
    shape = len(result.replicas["steps"]), len(time_s)
    came, left = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for where, begin, end in places:
        came_s = np.asarray(requests[begin])
        left_s = np.fmin(requests[end], requests["timed_out_s"])
        left_s[np.isnan(came_s)] = np.nan  # never came so far
        came += _until(where, came_s, time_s, shape[0])
        left += _until(where, left_s, time_s, shape[0])
    return came, left


def _until(owner: Ints, event_s: Floats, time_s: Floats, replicas: int) -> Ints:
    """How many events of each replica had happened at ascending times: [replica, moment]."""
    moments, here = len(time_s), owner >= 0
    # The first moment that sees it; behind all of them for what never happened (NaN).
    place = np.searchsorted(time_s, event_s[here], side="left")
    cells = owner[here].astype(np.int64) * (moments + 1) + place
    counts = np.bincount(cells, minlength=replicas * (moments + 1))
    return np.cumsum(counts.reshape(replicas, moments + 1), axis=1)[:, :moments]


def _kept_out(rows: dict[str, Ints], pool: Pool, longest: Ints) -> Ints:
    """What keeps the next request from starting; if nothing does, what the step is longest for."""
    seats = rows["decodes"] + rows["padding"] + rows["chunks"]
    tokens = rows["decodes"] + rows["padding"] + rows["prefill_tokens"]
    kept = np.where(tokens >= pool.token_budget, _place("token_budget"), longest)
    full = rows["kv_blocks"] >= FULL * pool.ledger.num_gpu_blocks
    kept = np.where(full, _place("kv_blocks"), kept)
    return np.where(seats >= pool.engine.max_num_seqs, _place("seats"), kept)


def _longest(rows: dict[str, Ints], pool: Pool, step_s: Floats) -> Ints:
    """What a step takes longest for."""
    price, gpu = pool.price, pool.gpu
    sequences = rows["decodes"] + rows["padding"] + rows["chunks"]
    tokens = rows["decodes"] + rows["padding"] + rows["prefill_tokens"]
    host_s = _host_s(Same(price))[sequences]
    flops = price.token_work[0][tokens] + price.sequence_work[0][sequences]
    moved = price.token_work[1][tokens] + price.sequence_work[1][sequences]
    moved = moved + rows["kv_blocks"] * pool.ledger.block_bytes
    arithmetic = flops / gpu.peak(pool.precision.main_compute)
    bandwidth = moved / gpu.bandwidth_bytes_per_s
    device = np.where(arithmetic > bandwidth, _place("arithmetic"), _place("bandwidth"))
    return np.where(host_s > step_s / 2, _place("host"), device).astype(np.int64)


def _place(name: str) -> int:
    return RESOURCES.index(name)


@lru_cache(maxsize=KEPT_TABLES)
def _host_s(price: Same[StepCost]) -> Floats:
    """What the host takes for a step, by its sequences from 0."""
    host_s = price.value.overhead_s + np.asarray(price.value.sequence_s)
    return host_s - price.value.bare_sequence_s
