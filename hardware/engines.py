"""What a serving engine adds to its kernels: named constants by engine version.

Kernels belong to a GPU (``hardware/calibrations``), constants to an engine and its version
(``engines.yaml``): a calibration called ``vllm`` or ``vllm-0.15`` is the two together, for whatever
GPU a scenario has.
"""

import re
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from hardware.calibration import (
    FOLDER,
    PARAMETERS,
    Calibration,
    Covariance,
    UnknownCalibrationError,
    load_calibration,
)
from hardware.gpu import Gpu
from hardware.yaml_file import read_yaml, validated

ENGINES = ("vllm",)
"""Whose constants are known."""

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
    "gb200": "b200-sxm",
    "gb300": "b200-sxm",
    "b300-sxm": "b200-sxm",
    "l20": "l40s",
    "rtx-6000-ada": "l40s",
    "rtx-pro-6000": "l40s",
    "rtx-5090": "l40s",
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


class EngineConstants(BaseModel):
    """Constants of one engine from one version on, and how uncertain they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    since: str
    """First version that they hold for."""
    source: str
    """What they were fitted to, or why they are assumed."""
    async_scheduling: bool
    """Whether the engine plans a step while the one before it runs."""
    values: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Parameters of a calibration, by name."""
    std: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Standard errors of those that were fitted."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    vllm: dict[str, EngineConstants]


@lru_cache(maxsize=1)
def engine_constants() -> dict[str, EngineConstants]:
    """Return the constants by name: ``vllm-0.15`` and so on, ascending by version.

    Raises:
        ValueError: a parameter that no calibration has.
    """
    path = Path(__file__).parent / "engines.yaml"
    found = validated(_File, read_yaml(path), path.name).vllm
    for name, constants in found.items():
        unknown = constants.values.keys() - PARAMETERS.keys()
        if unknown:
            raise ValueError(f"{path.name}: {name}: {', '.join(sorted(unknown))}: no parameters")
    return {f"vllm-{name}": each for name, each in found.items()}


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


def engine_calibration(name: str, gpu: Gpu) -> Calibration:
    """Return the measured kernels of ``gpu`` with an engine's constants.

    Args:
        name: ``vllm``, or ``vllm-`` and a version.
        gpu: of the catalogue, or one that its name calls ``NAME-modified``; without kernels of its
            own those of its nearest relative, which the result's source says.

    Raises:
        UnknownCalibrationError: no constants of that name, or no kernels for that GPU.
    """
    known = engine_constants()
    engine, _, version = name.lower().partition("-")
    if engine not in ENGINES or (version and not version_key(version)):
        raise UnknownCalibrationError(
            f"calibration = {name!r}: expected {', '.join(engine_calibration_names())}"
        )
    chosen = name.lower() if name.lower() in known else constants_of(version)
    constants = known[chosen]
    own = gpu.name.removesuffix("-modified")
    relative = own if (FOLDER / f"{own}.yaml").is_file() else RELATIVES.get(own)
    if relative is None:
        measured = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UnknownCalibrationError(
            f"calibration = {name!r}: no measured kernels for gpu {gpu.name}, expected one of "
            f"{measured}, {', '.join(RELATIVES)}; or calibration: none"
        )
    kernels = load_calibration(relative)
    borrowed = "" if relative == gpu.name else f"kernels borrowed from {relative}: "
    fields = dict(kernels) | PARAMETERS | constants.values
    return Calibration.model_construct(
        **fields
        | {
            "name": f"{chosen} on {gpu.name}{' (borrowed)' if borrowed else ''}",
            "source": f"{borrowed}{kernels.source}; {constants.source}",
            "software": f"vLLM {constants.since} or later",
            "async_scheduling": constants.async_scheduling,
            "covariance": _covariance(constants),
        }
    )


def _covariance(constants: EngineConstants) -> Covariance | None:
    names = tuple(name for name in constants.std if constants.values[name] > 0)
    if not names:
        return None
    matrix = tuple(
        tuple(constants.std[row] ** 2 if row == column else 0.0 for column in names)
        for row in names
    )
    return Covariance(parameters=names, matrix=matrix)


def version_key(version: str) -> tuple[int, ...]:
    """Return the first dotted numbers in a version, to compare it with others; () without any."""
    found = re.search(r"\d+(?:\.\d+)*", version if "." not in version else _dotted(version))
    return tuple(map(int, found[0].split("."))) if found else ()


def _dotted(version: str) -> str:
    """The first of its words that holds a dotted number: dates beside it are none."""
    found = re.search(r"\d+(?:\.\d+)+", version)
    return found[0] if found else version
