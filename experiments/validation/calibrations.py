"""Which calibration prices a run: the kernels of its GPU, the constants of its engine's version."""

from experiments.study.calibrations import calibration_of
from experiments.validation.settings import Setup
from hardware.calibration import DATASHEET, Calibration, UnknownCalibrationError
from hardware.engines.constants import constants_of, engine_calibration
from hardware.engines.versions import Version
from hardware.gpu import Gpu
from hardware.prices.lookup import doubtful_note, unmeasured_note
from sim.settings.engine_config import precision_of


def choose_calibration(gpu: Gpu, version: Version | None) -> tuple[Calibration, str]:
    """Return what prices a GPU and an engine version, and what a reader must know of it.

    Measured kernels of the GPU, or of its nearest relative; constants of the latest version that is
    not newer than ``version``, else the oldest; the newest when the version is not known.
    Without kernels the datasheet, which is said loudly.
    """
    try:
        chosen = engine_calibration(constants_of(".".join(map(str, version or ()))), gpu)
    except UnknownCalibrationError:
        return DATASHEET, (
            f"NOT CALIBRATED: no measured kernels of {gpu.name} or a relative; prices are the "
            "datasheet's peaks, a bound and no forecast"
        )
    loud = "BORROWED KERNELS: " if "borrowed" in chosen.name else ""
    which = "" if version else ", the newest, as the version is not known"
    return chosen, f"{loud}calibration {chosen.name}{which}"


def given_calibration(name: str, gpu: Gpu) -> tuple[Calibration, str]:
    """Return the calibration of a name or file for a GPU, and what to say of it.

    Raises:
        ValueError: no such calibration, or none for this GPU.
    """
    chosen = calibration_of(name, gpu.name)
    return chosen, f"calibration {chosen.name}, as given"


def layers_known(setup: Setup, calibration: Calibration) -> list[str]:
    """Return what to say of layers without kernels of their own, and of kernels in doubt."""
    numbers = precision_of(setup.engine, setup.spec, setup.gpu).kv_numbers
    told = (
        unmeasured_note(setup.spec, calibration),
        doubtful_note(setup.spec, calibration, numbers),
    )
    return [note for note in told if note]
