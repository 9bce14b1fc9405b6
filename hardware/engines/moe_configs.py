"""Shapes of experts that Triton was tuned for: rows of ``moe_configs.yaml``, looked up."""

from functools import lru_cache
from pathlib import Path

from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from hardware.prices.mixer_kernels import Numbers
from hardware.yaml_file import Row, read_bundled, validated
from model.dataclass import dataclass

Widths = dict[int, tuple[int, ...]]
"""By experts on a rank."""


@dataclass(frozen=True)
class _Configs(Row):
    until: str
    """First version whose default configuration has large tiles for large steps."""
    tuned: dict[str, dict[Numbers, dict[str, Widths]]]
    """By GPU, storage and first version."""


@lru_cache(maxsize=1)
def _configs() -> _Configs:
    path = Path(__file__).parent.parent / "moe_configs.yaml"
    return validated(_Configs, read_bundled(path), path.name)


def takes_small_tiles(gpu: Gpu, stored: str, experts: int, width: float, version: str) -> bool:
    """Return whether an engine computes experts in the default configuration of before 0.17.

    Args:
        gpu: of the catalogue, or like one of it.
        stored: how they are stored, or their arithmetic.
        experts: on a rank.
        width: columns that it has of each (of the gate).
        version: of the engine.
    """
    configs, engine = _configs(), version_key(version)
    if engine >= version_key(configs.until):
        return False
    of_gpu = configs.tuned.get(gpu.like or gpu.name, {})
    return not any(
        width in widths.get(experts, ())
        for numbers, dated in of_gpu.items()
        for since, widths in dated.items()
        if numbers == stored and version_key(since) <= engine
    )
