"""What a serving engine adds to its kernels: named constants by engine version.

Kernels belong to a GPU (``hardware/calibrations``), constants to an engine and its version
(``engines.yaml``): a calibration called ``vllm`` or ``vllm-0.15`` is the two together, for whatever
GPU a scenario has.
"""

import math
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
from hardware.engines.table import EngineConstants, vllm
from hardware.engines.versions import version_key
from hardware.evidence import Covariance
from hardware.gpu import Gpu
from hardware.relatives import links_of, relative_of, relatives
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
FITTED_BESIDE = "; constants of "
"""Between the sources of a file's kernels and of what an engine adds to them."""
UNMEASURED = ("fp32", "tf32")
"""Arithmetic of which no kernels were measured, nor of anything like it."""


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
    return _composed(name, gpu.name, relative_of(gpu), links_of(gpu))


@lru_cache(maxsize=64)
def _composed(name: str, gpu: str, relative: str | None, links: str | None) -> Calibration:
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
            f"{measured}, {', '.join(relatives())}; or calibration: none"
        )
    kernels = _with_links(load_calibration(relative), links)
    borrowed = "" if relative == gpu else f"kernels borrowed from {relative}: "
    measured_by = kernels.source.partition(FITTED_BESIDE)[0]
    about = {
        "name": f"{chosen} on {gpu}{' (borrowed)' if borrowed else ''}",
        "source": f"{borrowed}{measured_by}; {constants.source}",
        "software": f"vLLM {constants.since} or later",
        "covariance": _covariance(constants, gpu, relative),
    }
    return Calibration.model_validate(dict(kernels) | PARAMETERS | constants.values | about)


def _with_links(calibration: Calibration, links: str | None) -> Calibration:
    """Prices whose all-reduces went over the links of another GPU, if they are of another kind."""
    kernels = calibration.kernels
    if kernels is None or links is None or links == kernels.gpu:
        return calibration
    other = load_calibration(links).kernels
    assert other is not None
    changed: dict[str, object] = {
        "all_reduce": other.all_reduce, "all_reduce_of": links, "fused_all_reduce": None,
        "fused_up_to_bytes": {},
    }  # fmt: skip
    return calibration.model_copy(update={"kernels": kernels.model_copy(update=changed)})


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


def doubted(
    calibration: Calibration, spec: DecoderSpec, version: str, kv_bytes: float = 2.0
) -> Calibration:
    """Return a calibration whose errors are those of a model and an engine's version, too.

    ``kv_bytes`` are those of a number of the cache: constants were fitted to caches in 16 bits.

    Measured kernels with an engine's constants only: what was fitted to whole steps of one device
    has its own errors.
    """
    named = constants_named(calibration.name.split(" ")[0])
    if named is None or calibration.covariance is None:
        return calibration
    fitted = {version_key(each)[:2] for each in named[1].fitted}
    table = vllm().price_error
    more = math.hypot(
        table.experts if spec.num_experts else 0.0,
        0.0 if version_key(version)[:2] in fitted else table.version,
        table.small_cache if kv_bytes < 2.0 else 0.0,
    )
    covariance = calibration.covariance
    errors = {
        name: covariance.matrix[place][place] ** 0.5
        for place, name in enumerate(covariance.parameters)
    }
    wider = _widened(errors, dict(calibration), more)
    return calibration.model_copy(update={"covariance": wider})
