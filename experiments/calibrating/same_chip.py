"""Tables of GPUs of one chip: what arithmetic bounds takes as long on each of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.calibrating.kernel_fit import NUMBER_BYTES, fastest
from experiments.calibrating.kernel_tables import NUMBERS, SYSTEMS, Table, read_all
from hardware.gpu import Gpu, load_gpu

if TYPE_CHECKING:
    import pandas as pd

SAME_CHIP = {"h100-sxm": "h200-sxm"}
"""A GPU with few tables, and one of the same chip, clocks and power with another memory."""
SHAPE = ["m", "n", "k"]


def with_same_chip(
    gemm: Table, gpu: Gpu, folder: Path, engine: str, timed: Callable[[Table], Table]
) -> Table:
    """Return products that take no longer than on the same chip with another memory.

    Of those that arithmetic bounds on both the slower ones were timed without a tuned kernel, or at
    lower clocks.

    Args:
        gemm: the GPU's own.
        gpu: whose.
        folder: of its tables.
        engine: whose kernels.
        timed: leaves out arithmetics that were not timed on the GPU.
    """
    import pandas as pd

    if gpu.name not in SAME_CHIP:
        return gemm
    other = load_gpu(SAME_CHIP[gpu.name])
    theirs = read_all(folder.parent / SYSTEMS[other.name], "gemm", engine, "gemm_perf")
    if theirs is None:
        return gemm
    theirs = timed(theirs)
    parts = []
    for name, rows in gemm.rows.groupby("gemm_dtype"):
        found = theirs.rows[theirs.rows.gemm_dtype == name]
        known = name in NUMBERS and len(found)
        parts.append(_as_fast(rows, found, (gpu, other), str(name)) if known else rows)
    return Table(pd.concat(parts), f"{gemm.version} (arithmetic as on {other.name})")


def _as_fast(
    rows: "pd.DataFrame", theirs: "pd.DataFrame", gpus: tuple[Gpu, Gpu], name: str
) -> "pd.DataFrame":
    numbers = NUMBERS[name]
    best = fastest(theirs, SHAPE).set_index(SHAPE)["latency"].rename("other")
    rows = rows.join(best, on=SHAPE)
    flops = 2.0 * rows.m * rows.n * rows.k
    moved = NUMBER_BYTES[numbers] * rows.n * rows.k + 2.0 * rows.m * (rows.n + rows.k)
    peak = gpus[0].peak(numbers.removesuffix("_block"))
    bandwidth = min(gpu.bandwidth_bytes_per_s for gpu in gpus)
    bound = (flops / peak > moved / bandwidth) & (rows.other < rows.latency)
    rows["latency"] = rows.latency.where(~bound, rows.other)
    return rows.drop(columns="other")
