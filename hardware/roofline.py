"""The roofline: an operator takes as long as its arithmetic or its traffic, whichever is longer.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009. Arithmetic and traffic are taken to overlap
fully, so the result is a lower bound; a kernel's distance from it is an efficiency below one.
"""

import numpy as np
import numpy.typing as npt

F = float | npt.NDArray[np.float64]


def operator_s(
    flops: F,
    bytes_: F,
    peak_flops_per_s: float,
    bandwidth_bytes_per_s: float,
    overlap: float = 1.0,
) -> F:
    """Return ``max(flops / peak, bytes / bandwidth)`` in seconds; counts broadcast.

    Efficiencies are applied by the caller to peak and bandwidth. With an ``overlap`` below one the
    shorter of the two is hidden to that share only: at zero the result is their sum.
    """
    compute_s, memory_s = flops / peak_flops_per_s, bytes_ / bandwidth_bytes_per_s
    seconds: F = np.maximum(compute_s, memory_s)
    if overlap < 1.0:
        seconds = seconds + (1.0 - overlap) * np.minimum(compute_s, memory_s)
    return float(seconds) if np.ndim(seconds) == 0 else seconds


def ridge_flops_per_byte(peak_flops_per_s: float, bandwidth_bytes_per_s: float) -> float:
    """Return the intensity, FLOP/byte, above which arithmetic is the longer of the two.

    ``peak / bandwidth``: 153 for an A100 (312 TFLOP/s, 2.039 TB/s), 295 for an H100.
    """
    return peak_flops_per_s / bandwidth_bytes_per_s
