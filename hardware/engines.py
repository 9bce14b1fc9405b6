"""What a serving engine adds to its kernels: named constants by engine version.

Kernels belong to a GPU (``hardware/calibrations``), constants to an engine and its version
(``engines.yaml``): a calibration called ``vllm`` or ``vllm-0.15`` is the two together, for whatever
GPU a scenario has.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from hardware.calibration import (
    DATASHEET,
    FOLDER,
    PARAMETERS,
    Calibration,
    UnknownCalibrationError,
    load_calibration,
)
from hardware.engine_table import EngineConstants, vllm
from hardware.evidence import Covariance
from hardware.gpu import Gpu
from hardware.versions import version_key
from model.spec import DecoderSpec

ENGINES = ("vllm",)
"""Whose constants are known."""
AUTO = "auto"
"""The calibration of whatever is known best of a GPU and a version."""
HOST_TIMES = (
    "layer_overhead_s", "step_overhead_s", "sequence_overhead_s", "chunk_overhead_s",
    "sync_step_s", "sync_sequence_s",
)  # fmt: skip
"""Constants that a host decides."""
UNMEASURED = ("fp32", "tf32")
"""Arithmetic of which no kernels were measured, nor of anything like it."""

RELATIVES = {
    "a100-40gb-sxm": "a100-80gb-sxm",
    "a100-80gb-pcie": "a100-80gb-sxm",
    "a100-40gb-pcie": "a100-80gb-sxm",
    "a10g": "a100-80gb-sxm",
    "t4": "a100-80gb-sxm",
    "h100-pcie": "h100-sxm",
    "l4": "l40s",
    "rtx-4090": "l40s",
    "mi300x": "h100-sxm",
    "mi325x": "h100-sxm",
    "mi355x": "b200-sxm",
    "h20-sxm": "h100-sxm",
    "h100-nvl": "h100-sxm",
    "l20": "l40s",
    "rtx-6000-ada": "l40s",
    "rtx-5090": "rtx-pro-6000",
    "rtx-3090": "a100-80gb-sxm",
    "rtx-a6000": "a100-80gb-sxm",
    "a40": "a100-80gb-sxm",
    "a30": "a100-80gb-sxm",
    "a10": "a100-80gb-sxm",
    "v100-32gb-sxm": "a100-80gb-sxm",
    "v100-16gb-sxm": "a100-80gb-sxm",
}
"""Whose kernels a GPU without tables is taken to have, at its own peaks: the same architecture
where there is one (V100, T4, RTX 30 and A10 to A40: the older tensor cores; RTX Blackwell: those of
Ada; MI300X and its kin: no relative, the same time)."""


def engine_constants() -> dict[str, EngineConstants]:
    """Return the constants by name: ``vllm-0.15`` and so on, ascending by version."""
    return {f"vllm-{name}": each for name, each in vllm().constants.items()}


def constants_of(version: str) -> str:
    """Return the name of the constants that hold for a version: the last that began before it.

    ``version`` may carry words around its numbers; without any, the newest constants are taken.
    """
    known = engine_constants()
    wanted = version_key(version)
    below = [name for name, each in known.items() if version_key(each.since) <= wanted]
    return below[-1] if wanted and below else list(known)[0 if wanted else -1]


def engine_calibration_names() -> tuple[str, ...]:
    """Names that ``engine_calibration`` knows: ``vllm`` for the newest, and one per version."""
    return (*ENGINES, *engine_constants())


def best_calibration(version: str, gpu: Gpu, compute: str) -> str:
    """Return the name of the calibration that is known best: what ``auto`` means.

    Constants of the version with measured kernels of the GPU or of its nearest relative; ``none``,
    the datasheet, where there are none of either, or of such arithmetic (``compute``).
    """
    measured = relative_of(gpu) is not None and compute not in UNMEASURED
    return constants_of(version) if measured else DATASHEET.name


def constants_named(calibration: str) -> tuple[str, EngineConstants] | None:
    """Return the constants that an engine's calibration has, and their name; None for others."""
    engine, _, version = calibration.lower().partition("-")
    if engine not in ENGINES or (version and not version_key(version)):
        return None
    name = (
        calibration.lower() if calibration.lower() in engine_constants() else constants_of(version)
    )
    return name, engine_constants()[name]


def version_of(calibration: str) -> str:
    """Return the version in the name of an engine's calibration; nothing where it names none."""
    engine, _, version = calibration.lower().partition("-")
    return version if engine in ENGINES and version_key(version) else ""


def engine_calibration(name: str, gpu: Gpu) -> Calibration:
    """Return the measured kernels of ``gpu`` with an engine's constants.

    Args:
        name: ``vllm``, or ``vllm-`` and a version.
        gpu: without kernels of its own those of its nearest relative, which the result's source
            says.

    Raises:
        UnknownCalibrationError: no constants of that name, or no kernels for that GPU.
    """
    return _composed(name, gpu.name, relative_of(gpu))


@lru_cache(maxsize=64)
def _composed(name: str, gpu: str, relative: str | None) -> Calibration:
    named = constants_named(name)
    if named is None:
        raise UnknownCalibrationError(
            f"calibration = {name!r}: expected {', '.join(engine_calibration_names())}"
        )
    chosen, constants = named
    if relative is None:
        measured = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UnknownCalibrationError(
            f"calibration = {name!r}: no measured kernels for gpu {gpu}, expected one of "
            f"{measured}, {', '.join(RELATIVES)}; or calibration: none"
        )
    kernels = load_calibration(relative)
    borrowed = "" if relative == gpu else f"kernels borrowed from {relative}: "
    about = {
        "name": f"{chosen} on {gpu}{' (borrowed)' if borrowed else ''}",
        "source": f"{borrowed}{kernels.source}; {constants.source}",
        "software": f"vLLM {constants.since} or later",
        "covariance": _covariance(constants, gpu, relative),
    }
    return Calibration.model_validate(dict(kernels) | PARAMETERS | constants.values | about)


def relative_of(gpu: Gpu) -> str | None:
    """Return whose kernels price a GPU: its own, or those of the nearest measured relative.

    A GPU that a mapping describes has those of the GPU that ``like`` names.
    """
    own = gpu.like or gpu.name
    return own if (FOLDER / f"{own}.yaml").is_file() else RELATIVES.get(own)


def _covariance(constants: EngineConstants, gpu: str, relative: str) -> Covariance:
    """Return the errors of the constants, and of what they are put upon."""
    table = vllm().price_error
    errors = {name: std for name, std in constants.std.items() if constants.values[name] > 0}
    if gpu not in table.fitted_on:
        for name, value in constants.values.items():
            if name in HOST_TIMES and value > 0:
                errors[name] = float(np.hypot(errors.get(name, 0.0), table.host * value))
    return _widened(errors, constants.values, table.of(gpu, relative))


def _widened(
    errors: Mapping[str, float], values: Mapping[str, float], price_error: float
) -> Covariance:
    """Add an error of the speed of matrix products and of reading the cache to others."""
    wider = dict(errors)
    for name in ("gemm_share", "attention_decode_bytes"):
        own_error = price_error * values.get(name, PARAMETERS[name])
        wider[name] = float(np.hypot(wider.get(name, 0.0), own_error))
    matrix = np.diag(np.square(list(wider.values())))
    return Covariance(parameters=tuple(wider), matrix=tuple(tuple(row) for row in matrix.tolist()))


def doubted(calibration: Calibration, spec: DecoderSpec, version: str) -> Calibration:
    """Return a calibration whose errors are those of a model and an engine's version, too.

    Measured kernels with an engine's constants only: what was fitted to whole steps of one device
    has its own errors.
    """
    named = constants_named(calibration.name.split(" ")[0])
    if named is None or calibration.covariance is None:
        return calibration
    fitted = {version_key(each)[:2] for each in named[1].fitted}
    table = vllm().price_error
    more = np.hypot(
        table.experts if spec.num_experts else 0.0,
        0.0 if version_key(version)[:2] in fitted else table.version,
    )
    covariance = calibration.covariance
    errors = {
        name: covariance.matrix[place][place] ** 0.5
        for place, name in enumerate(covariance.parameters)
    }
    wider = _widened(errors, dict(calibration), float(more))
    return calibration.model_copy(update={"covariance": wider})
