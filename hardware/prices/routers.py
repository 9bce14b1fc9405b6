"""Products that choose experts: narrow ones, and those in float32, of which there are no tables.

Times are those of vLLM's pull requests: 37205 (gpt-oss, 16 bits), 47973 (float32 on GB200, 6,144
inputs and 256 experts).
"""

import numpy as np
import numpy.typing as npt

from hardware.arithmetic import DATA_CENTER_BLACKWELL
from hardware.gpu import Gpu
from hardware.prices.surface import Surface
from model.mlps.experts import CHOOSES
from model.operators import F, Operator

Floats = npt.NDArray[np.float64]

INPUT_S, INPUT_ALONE_S, INPUT_UNSPLIT_S = 3.3e-9, 1.2e-9, 10.3e-9
"""What float32 takes for each input, along which few blocks of threads go: of 2 to 16 rows 20 us
for 6,144 inputs, of one 7.5, and of more on Blackwell, whose kernel does not split them, 63; what
128 to 1,024 rows take beyond that is their arithmetic."""
SPLIT_ROWS = 16
"""Up to so many rows inputs are split among blocks of threads there."""


def narrow_s(operator: Operator, surface: Surface, gpu: Gpu) -> float:
    """Return what a product takes at least that is narrower than all that were timed.

    As long as one row of the narrowest: 32 and 128 outputs take 5.9 us where a roofline would have
    0.5, and so do 1 to 1,024 rows. Of routers alone: tables of whole layers hold their own.
    """
    assert operator.gemm is not None
    _, n, k = operator.gemm
    first = surface.axes["n"][0]
    if operator.name not in CHOOSES or n >= first:
        return 0.0
    moved_s = np.asarray(operator.weight_bytes) * first / n / gpu.bandwidth_bytes_per_s
    share = surface(m=np.array([1.0]), n=first, k=k)
    return float(np.max(moved_s / share))


def along_inputs_s(rows: F, inputs: int, gpu: Gpu) -> Floats:
    """Return what a product in float32 takes beside its arithmetic."""
    unsplit = (gpu.compute_capability or 0.0) >= DATA_CENTER_BLACKWELL  # and what follows
    many_s = INPUT_UNSPLIT_S if unsplit else INPUT_S
    of_input = np.where(np.asarray(rows) > SPLIT_ROWS, many_s, INPUT_S)
    return inputs * np.where(np.asarray(rows) > 1, of_input, INPUT_ALONE_S)
