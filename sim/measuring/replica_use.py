"""How well each replica of a run was used, beside the others."""

import numpy as np
import numpy.typing as npt

from sim.measuring.hardware_use import efficiency, ratio
from sim.measuring.steady_state import Window
from sim.measuring.step_totals import step_totals
from sim.recording.result import Result
from sim.settings.scenario import Kind, Scenario

REPLICA_USE = {
    "busy_share": "share of the window in which it computed",
    "mean_batch_size": "sequences decoding or prefilling in a step of it, averaged over its busy "
    "time",
    "kv_use_mean": "share of its KV blocks in use, averaged over the window",
    "kv_use_max": "largest share of them held in a step of the window",
    "mfu": "FLOPs of its steps / (its busy time x peak FLOP/s)",
    "mbu": "bytes that its steps moved through memory / (its busy time x peak bandwidth)",
}
"""Columns of the table of replicas, behind those of ``sim.measuring.routing_metrics.REPLICAS``."""


def replica_use(
    result: Result, scenario: Scenario, window: Window
) -> dict[str, npt.NDArray[np.float64]]:
    """Return ``REPLICA_USE`` of every replica, shape (replicas,)."""
    alone = [
        Kind(kind.pool, np.array([number]))
        for kind in scenario.kinds
        for number in kind.numbers.tolist()
    ]
    found = {name: np.full(len(alone), np.nan) for name in REPLICA_USE}
    for kind, total in zip(alone, step_totals(result, window, alone), strict=True):
        (number,) = kind.numbers.tolist()
        blocks = int(result.replicas["num_gpu_blocks"][number])
        use = {
            "busy_share": ratio(total.busy_s, window.length_s),
            "mean_batch_size": ratio(total.batch_s, total.busy_s),
            "kv_use_mean": ratio(total.kv_blocks_s, window.length_s * blocks),
            "kv_use_max": total.kv_blocks_max / blocks,
            **efficiency((kind,), (total,)),
        }
        for name, values in found.items():
            values[number] = use[name]
    return found
