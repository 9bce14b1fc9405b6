"""All-reduces that compute the norm behind them, in one kernel of FlashInfer.

Since 0.17 vLLM compiles models so on Hopper and Blackwell of data centers (``fuse_allreduce_rms``);
before, who asked for it had it (``enable_fi_allreduce_fusion``). Larger buffers than the version's
limit for so many ranks are reduced as ever.
"""

from functools import lru_cache

from hardware.calibration import Calibration
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from model.same import Same

MIB = 2**20


def with_fused_all_reduces(
    calibration: Calibration,
    told: bool | None,
    version: str,
    gpu: Gpu,
    *,
    ranks: int = 1,
    stages: int = 1,
) -> Calibration:
    """Return a calibration whose all-reduces before a norm are those of an engine.

    Args:
        calibration: prices without.
        told: whether norms are fused; None: as the version does.
        version: of the engine.
        gpu: of all ranks.
        ranks: data-parallel ones.
        stages: of the pipeline.

    Raises:
        ValueError: it is told, and no prices of such kernels on that GPU are known.
    """
    at, rows = version_key(version), vllm().fused_all_reduces
    kernels = calibration.kernels
    up_to_mib = rows.up_to_mib.at(at).get(str(gpu.compute_capability), {})
    fused = None if kernels is None else kernels.fused_all_reduce
    measured = () if fused is None else fused.axes["ranks"]
    up_to_bytes = {count: mib * MIB for count, mib in up_to_mib.items() if count in measured}
    if told and not up_to_bytes:
        raise ValueError(
            f"engine.fuse_allreduce_rms: no prices of all-reduces with a norm on {gpu.name} with "
            f"vLLM {version} are known, expected false, or nothing"
        )
    usual = rows.by_default.at(at)
    usual &= ranks == 1 or rows.beside_ranks.at(at)
    usual &= stages == 1 or rows.beside_stages.at(at)
    if kernels is None or not up_to_bytes or not (usual if told is None else told):
        return calibration
    return _fused(Same(calibration), tuple(up_to_bytes.items()))


@lru_cache(maxsize=64)
def _fused(calibration: Same[Calibration], up_to_bytes: tuple[tuple[int, int], ...]) -> Calibration:
    """The same object for all points of a sweep, which are told apart by what they rest on."""
    kernels = calibration.value.kernels
    assert kernels is not None
    served = kernels.model_copy(update={"fused_up_to_bytes": dict(up_to_bytes)})
    return calibration.value.model_copy(update={"kernels": served})
