"""The calibration and the GPU that a study names."""

from hardware.calibration import (
    Calibration,
    UnknownCalibrationError,
    calibration_names,
    load_calibration,
)
from hardware.engines.constants import AUTO, ENGINES, engine_calibration, engine_calibration_names
from hardware.gpu import Gpu, load_gpu
from model.errors import one_of
from workloads.streams import stream

CALIBRATED = "calibrated"
"""What ``cluster.gpu`` says for the device that the calibration describes."""


def gpu_of(gpu: str | dict[str, object], calibration: Calibration) -> Gpu:
    """Load a GPU of the catalogue, of a mapping, or the calibration's own device.

    Raises:
        ValueError: an unknown GPU, or ``calibrated`` with a calibration that holds no device.
    """
    if not names_calibrated(gpu):
        return load_gpu(gpu)
    if calibration.device is not None:
        return calibration.device
    if calibration.gpu is None:
        expected = "expected a calibration file with a device, or a gpu of the catalogue"
    else:
        expected = f"expected the gpu that it was measured on: {calibration.gpu}"
    raise ValueError(
        f"cluster.gpu = {CALIBRATED!r} is the device of the calibration, but calibration "
        f"{calibration.name} holds none, {expected}"
    )


def names_calibrated(gpu: object) -> bool:
    """Tell whether ``cluster.gpu`` asks for the calibration's own device."""
    return isinstance(gpu, str) and gpu.strip().lower() == CALIBRATED


def drawn(calibration: Calibration, price_seed: int) -> Calibration:
    """Draw a calibration; a seed draws alike at every point of a sweep.

    Raises:
        ValueError: the calibration has no covariance.
    """
    if calibration.covariance is None:
        raise ValueError(
            f"calibration = {calibration.name!r} has no covariance to draw from, expected one "
            "that was fitted, or calibration_draws: 0"
        )
    return calibration.draw(stream(price_seed, "prices"))


def calibration_of(calibration: str, gpu: str | dict[str, object]) -> Calibration:
    """Load a calibration by name or path; that of an engine is composed for the GPU.

    Raises:
        ValueError: no such calibration, or none of that engine for that GPU.
    """
    if not names_engine(calibration):
        return load_calibration(calibration)
    if names_calibrated(gpu):
        raise UnknownCalibrationError(
            f"cluster.gpu = {CALIBRATED!r} is the device of a calibration that was measured, but "
            f"calibration = {calibration!r} is one for every GPU, expected a gpu of the catalogue"
        )
    return engine_calibration(calibration, load_gpu(gpu))


def names_engine(calibration: str) -> bool:
    """Tell whether a calibration is an engine's: measured kernels of any GPU, and constants."""
    if calibration.lower() == AUTO:
        return True
    engine, dash, version = calibration.lower().partition("-")
    return engine in ENGINES and (not dash or version[:1].isdigit())


def check_calibration(calibration: str) -> None:
    """Look a name or path up, whatever the GPU. Raises ValueError."""
    engines = (AUTO, *engine_calibration_names())
    if names_engine(calibration):
        if calibration.lower() not in engines:
            told = f"calibration = {calibration!r}: {one_of(calibration, engines)}"
            raise UnknownCalibrationError(told)
        return
    try:
        load_calibration(calibration)
    except UnknownCalibrationError:
        names = one_of(calibration, (*engines, *calibration_names()))
        raise UnknownCalibrationError(
            f"calibration = {calibration!r} is no file that exists: {names}"
        ) from None
