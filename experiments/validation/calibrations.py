"""Which calibration prices a run: that of its GPU, of the nearest engine version."""

import re

from experiments.validation.settings import Version, version_of
from hardware.calibration import (
    DATASHEET,
    Calibration,
    calibration_names,
    load_calibration,
)
from hardware.gpu import Gpu


def choose_calibration(gpu: Gpu, version: Version | None) -> tuple[Calibration, str]:
    """Return the bundled calibration for a GPU and an engine version, and what to say of it.

    Of those whose ``gpu`` is this one: the latest that is not newer than ``version``, else the
    oldest; the latest of all when the version is not known. Without any, the datasheet.
    """
    mine = [
        calibration
        for name in calibration_names()
        if (calibration := load_calibration(name)).gpu == gpu.name
    ]
    if not mine:
        return DATASHEET, (
            f"NOT CALIBRATED: no measured kernels of {gpu.name} are bundled; prices are the "
            "datasheet's peaks, a bound and no forecast"
        )
    by_version = sorted(mine, key=_version)
    older = [one for one in by_version if version is None or _version(one) <= version]
    chosen = older[-1] if older else by_version[0]
    return chosen, f"calibration {chosen.name} ({chosen.software or 'unnamed software'})"


def _version(calibration: Calibration) -> Version:
    """Version of vLLM in the software's name; (0,) when it names none."""
    software = calibration.software or ""
    found = re.search(r"vllm\D{0,3}(\d[\d.]*)", software.lower())
    return version_of(found[1] if found else software) or (0,)
