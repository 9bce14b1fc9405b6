"""Whose kernels compute the experts of a mixture: one backend of vLLM or another.

Tables time what vLLM chooses when they are made. Other versions choose otherwise, and so can people
(``--moe-backend``); where both were measured, ``Kernels.backends`` has them.
"""

from hardware.calibration import Calibration
from hardware.defaults import engine_defaults
from hardware.gpu import Gpu
from hardware.group import Group
from model.precision import Precision
from model.spec import DecoderSpec

AUTO = "auto"


def with_moe_backend(
    calibration: Calibration,
    told: str,
    version: str,
    spec: DecoderSpec,
    gpu: Gpu,
    precision: Precision,
) -> Calibration:
    """Return a calibration whose experts are those of a backend.

    Args:
        calibration: prices without one.
        told: vLLM's name of it, or ``auto``: what the version chooses, as far as it was measured.
        version: of the engine.
        spec: the model.
        gpu: every rank's.
        precision: how its experts are stored.

    Raises:
        ValueError: a backend that is told and was not measured for such experts on that GPU.
    """
    kernels = calibration.kernels
    if told == AUTO:
        chosen = engine_defaults(version, gpu).moe_backend
        if kernels is None or chosen is None:
            return calibration
        return calibration.model_copy(update={"kernels": kernels.with_backend(chosen)})
    group = Group(spec=spec, gpu=gpu, precision=precision)
    products = [one for one in group.expert_operators(1.0) if one.gemm is not None]
    stored = {one.stored or one.compute for one in products}
    if not stored:
        raise ValueError(f"engine.moe_backend: {told} with {spec.name}, which has no experts")
    measured = [set(kernels.backends_of(name)) if kernels else set() for name in sorted(stored)]
    common = set.intersection(*measured)
    if kernels is None or told not in common:
        known = ", ".join((AUTO, *sorted(common)))
        raise ValueError(
            f"engine.moe_backend = {told!r}: no measured kernels of experts in "
            f"{' and '.join(sorted(stored))} by it on {gpu.name}, expected one of {known}"
        )
    return calibration.model_copy(update={"kernels": kernels.with_backend(told)})
