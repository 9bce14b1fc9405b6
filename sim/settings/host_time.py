"""What the host costs in a step beside the GPU's kernels."""

from hardware.calibration import DATASHEET, Calibration
from sim.settings.resolved_engine import ResolvedEngine

ASSUMED_STEP_OVERHEAD_S = 1e-3
ASSUMED_SEQUENCE_OVERHEAD_S = 1e-5
"""Host time where nothing was measured: round figures, of the order of what a Python engine does
between two steps (scheduling, preparing inputs, sampling, streaming). An engine without any would
be too good to be true; ``engine.step_overhead_s: 0`` gives the bare roofline."""


def host_s(engine: ResolvedEngine, calibration: Calibration) -> tuple[float, float]:
    """Return the host time of a step and of each of its sequences.

    As given, else the calibration's, else what is assumed on bare peaks. What asynchronous
    scheduling hides counts where steps are planned one after the other.
    """
    assumed = calibration == DATASHEET
    step_s = ASSUMED_STEP_OVERHEAD_S if assumed else calibration.step_overhead_s
    each_s = ASSUMED_SEQUENCE_OVERHEAD_S if assumed else calibration.sequence_overhead_s
    if not engine.async_scheduling:
        step_s += calibration.sync_step_s
        each_s += calibration.sync_sequence_s
    if engine.step_overhead_s is not None:
        step_s = engine.step_overhead_s
    if engine.sequence_overhead_s is not None:
        each_s = engine.sequence_overhead_s
    return step_s, each_s
