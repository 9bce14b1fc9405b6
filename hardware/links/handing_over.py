"""What a pipeline stage takes to hand its rows to the next one.

Each GPU of a stage sends its share of the hidden states (and of the residual) to its peer of the
next one, whose group gathers the whole (vllm/distributed/parallel_state.py, ``send_tensor_dict``
with ``all_gather_group``). A stage is busy until what it made is sent, as the next forward pass of
a worker waits for that (vllm/v1/worker/gpu_worker.py, ``_pp_send_work``).
"""

import numpy as np
import numpy.typing as npt

from hardware.calibration import Calibration
from hardware.group import Group
from hardware.links.interconnect import send_s
from hardware.prices.protocol import Prices
from model.stages import handed_over

Floats = npt.NDArray[np.float64]


def handed_over_s(
    group: Group, prices: Prices, calibration: Calibration, number: int, tokens: Floats
) -> Floats:
    """Return what stage ``number`` sends and gathers in steps of so many tokens; 0 for none."""
    seconds = np.zeros_like(tokens)
    bytes_ = handed_over(group.spec) * group.reduced_bytes(tokens)
    if not group.embeds and group.tp > 1:
        seconds = seconds + prices.all_gather_s(bytes_, group.tp)
    if not group.predicts:
        sent_s = send_s(
            bytes_ / group.tp, group.gpu, group.tp, number, calibration.all_reduce_bytes
        )
        seconds = seconds + sent_s + calibration.collective_overhead_s
    return np.where(tokens > 0, seconds, 0.0)
