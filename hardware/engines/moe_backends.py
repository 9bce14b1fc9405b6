"""Whose kernels compute the experts of a mixture: one backend of vLLM or another.

Tables time what vLLM chooses when they are made. Other versions choose otherwise, and so can people
(``--moe-backend``); where both were measured, ``Kernels.backends`` has them. DeepGEMM is a law
(``hardware.prices.deep_gemm``), on Hopper alone. Triton's are those of tuned shapes, and before
0.17 of others where a shape was not tuned (``hardware.engines.moe_configs``).
"""

from hardware.calibration import Calibration
from hardware.engines.defaults import engine_defaults, newest_version
from hardware.engines.moe_configs import takes_small_tiles
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from hardware.group import Group
from hardware.prices.kernels import DEEP_GEMM, GATED_MATRICES, TILED, Kernels
from model.operators import Operator

AUTO = "auto"
HOPPER = 9
"""Compute capability."""
MANY_PARTS, MANY_PARTS_SINCE = 8, (0, 12)
"""Ranks that have a part of each expert from which on DeepGEMM is not the default, and since when
(vllm/model_executor/layers/quantization/fp8.py, ``get_fp8_moe_backend``)."""


def with_moe_backend(
    calibration: Calibration, told: str, version: str, group: Group, *, parts: int
) -> Calibration:
    """Return a calibration whose experts are those of a backend.

    Args:
        calibration: prices without one.
        told: vLLM's name of it, or ``auto``: what the version chooses, as far as it is known.
        version: of the engine.
        group: the model and its ranks.
        parts: into which an expert is cut; 1: ranks have whole ones.

    Raises:
        ValueError: a backend that is told, and of which no prices of such experts on that GPU are
            known.
    """
    kernels, gpu = calibration.kernels, group.gpu
    products = [one for one in group.expert_operators(1.0) if one.gemm is not None]
    stored = sorted({one.stored or one.compute for one in products})
    known = (
        set.intersection(*(_known(kernels, name, group) for name in stored)) if stored else set()
    )
    chosen: str | None = told
    if told == AUTO:
        chosen = engine_defaults(version, gpu).moe_backend
        many = parts >= MANY_PARTS and version_key(version) >= MANY_PARTS_SINCE
        if chosen not in known or (chosen == DEEP_GEMM and many):
            return _as_tuned(calibration, version or newest_version(), products, gpu)
    elif not stored:
        raise ValueError(f"engine.moe_backend: {told} with {group.spec.name}, which has no experts")
    elif told not in known:
        raise ValueError(
            f"engine.moe_backend = {told!r}: no prices of experts in {' and '.join(stored)} by it "
            f"on {gpu.name} are known, expected one of {', '.join((AUTO, *sorted(known)))}"
        )
    assert kernels is not None
    assert chosen is not None
    empty = vllm().defaults.computes_empty_tiles.at(version_key(version or newest_version()))
    served = kernels.with_backend(chosen, empty_tiles=empty)
    return calibration.model_copy(update={"kernels": served})


def _as_tuned(
    calibration: Calibration, version: str, products: list[Operator], gpu: Gpu
) -> Calibration:
    """Return a calibration whose experts have small tiles, where Triton was not tuned for them."""
    kernels = calibration.kernels
    if kernels is None:
        return calibration
    for one in products:
        assert one.gemm is not None
        stored = one.stored or ("bf16" if one.compute == "fp16" else one.compute)
        width = one.gemm[1] / GATED_MATRICES
        if takes_small_tiles(gpu, stored, int(one.groups), width, version):
            kernels = kernels.with_small_tiles(stored)
    if kernels is calibration.kernels:
        return calibration
    return calibration.model_copy(update={"kernels": kernels})


def _known(kernels: Kernels | None, stored: str, group: Group) -> set[str]:
    """Return the backends of which prices of experts of a storage are known."""
    if kernels is None:
        return set()
    hopper = int(group.gpu.compute_capability or 0) == HOPPER
    tiled = {DEEP_GEMM} if hopper and stored == TILED else set()
    return {*kernels.backends_of(stored), *tiled}
