"""Which prices a calibration gives."""

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.prices.measured import Measured
from hardware.prices.modelled import Roofline
from hardware.prices.protocol import Prices


def prices_of(gpu: Gpu, calibration: Calibration, *, fused: bool) -> Prices:
    """Return prices from measured kernels where the calibration has some, or from the roofline.

    Args:
        gpu: every rank's.
        calibration: efficiencies, kernels and overheads.
        fused: FlashAttention's traffic; otherwise scores and probabilities go through memory.
    """
    if calibration.kernels is None:
        return Roofline(gpu, calibration, fused=fused)
    return Measured(gpu, calibration, calibration.kernels, fused=fused)
