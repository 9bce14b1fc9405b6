"""Whose kernels price a GPU without tables, and how near its own peaks they come there.

A table of kernels tells shares of one GPU's peaks. Which share large products reach depends on the
power that a GPU may draw, so that a relative reaches another: an L40S 72% of its arithmetic, an
L20, which has a third of that arithmetic, 96%. ``relatives.yaml`` has what was measured.
"""

from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path

from pydantic import PositiveFloat

from hardware.gpu import Compute, Gpu, load_gpu
from hardware.prices.kernels import Kernels, nearest
from hardware.yaml_file import Row, read_bundled, validated
from model.dataclass import dataclass
from model.kept import kept

TABLES = Path(__file__).parent / "calibrations"

LINK = ("link_bytes_per_s", "link_peer_bytes_per_s", "link_latency_s")
LARGE_ROWS = (2048.0, 4096.0, 8192.0)
LARGE = 8192.0
"""Rows, columns and inputs of products at which a table's share of the arithmetic is taken."""
UNHINDERED = 0.95
"""Share of its arithmetic that a GPU reaches which has less than half of its relative's, and half
of its bandwidth or more: its units are the limit, not its power (as on L20, 0.96)."""


@dataclass(frozen=True)
class Relative(Row):
    """A row of ``relatives.yaml``."""

    kernels: str
    """Catalogue name of the measured GPU."""
    reached: dict[Compute, PositiveFloat] = field(default_factory=dict)
    """TFLOP/s of the largest matrix products."""
    read: PositiveFloat = 1.0
    """Share of its bandwidth that it reaches, over the relative's."""
    source: str = ""
    """Of ``reached`` and ``read``."""

    def __post_init__(self) -> None:
        if (self.reached or self.read != 1.0) and not self.source:
            raise ValueError("figures without a source")


@dataclass(frozen=True)
class _Relatives(Row):
    relatives: dict[str, Relative]
    links: dict[str, str]
    """By link: the GPU whose all-reduces were measured over its like."""


@lru_cache(maxsize=1)
def _table() -> _Relatives:
    return kept("relatives", _read)


def _read() -> _Relatives:
    path = Path(__file__).parent / "relatives.yaml"
    return validated(_Relatives, read_bundled(path), path.name)


def relatives() -> Mapping[str, Relative]:
    """Return the GPUs that borrow kernels, by name."""
    return _table().relatives


def relative_of(gpu: Gpu) -> str | None:
    """Return whose kernels price a GPU: its own, or those of the nearest measured relative.

    A GPU that a mapping describes has those of the GPU that ``like`` names.
    """
    own = gpu.like or gpu.name
    if (TABLES / f"{own}.yaml").is_file():
        return own
    row = relatives().get(own)
    return row.kernels if row else None


def links_of(gpu: Gpu) -> str | None:
    """Return whose all-reduces price a GPU's: its relative's, where links are of the same kind."""
    relative = relative_of(gpu)
    if relative is None or _kind(load_gpu(relative).link) == _kind(gpu.link):
        return relative
    return _table().links.get(gpu.link, relative)


def _kind(link: str) -> str:
    return link.split(" ")[0]


def other_links(gpu: Gpu, kernels: Kernels) -> Gpu | None:
    """Return the GPU whose all-reduces a table has, where its links are not as fast; None: they are
    as fast, or there are none."""
    measured = kernels.all_reduce_of or kernels.gpu
    if kernels.all_reduce is None or gpu.name == measured:
        return None
    other = load_gpu(measured)
    alike = all(getattr(gpu, name) == getattr(other, name) for name in LINK)
    return None if alike else other


def told_of_links(gpu: Gpu, kernels: Kernels) -> str:
    """Say whose all-reduces a group of these GPUs has; nothing where they are its relative's."""
    other = other_links(gpu, kernels)
    if other is None and not kernels.all_reduce_of:
        return ""
    measured = load_gpu(kernels.all_reduce_of or kernels.gpu)
    ratio = "" if other is None else ", in the ratio of what a model of both links says"
    return (
        f"all-reduces of {gpu.name} ({gpu.link}) are those measured on {measured.name} "
        f"({measured.link}){ratio}"
    )


def as_priced(gpu: Gpu, kernels: Kernels, sustained: float = 1.0) -> Gpu:
    """Return a GPU with peaks of which tables tell the right share.

    That is the GPU itself where they are its own. Else large products take what they were measured
    to take on it, or as ``UNHINDERED`` says; otherwise they reach the share that the tables have.

    Args:
        gpu: with its own peaks.
        kernels: of itself or of a relative.
        sustained: speed of products in an engine that computes for minutes, of that in the tables;
            not where it is measured or no power limits it.
    """
    if gpu.name == kernels.gpu:
        row = Relative(kernels=gpu.name)
    else:
        row = relatives().get(gpu.like or gpu.name, Relative(kernels=kernels.gpu))
    peaks = {
        compute: peak * (_faster(gpu, compute, kernels, row) or sustained)
        for compute, peak in gpu.peak_flops_per_s.items()
    }
    bandwidth = gpu.bandwidth_bytes_per_s * row.read
    return gpu.model_copy(update={"peak_flops_per_s": peaks, "bandwidth_bytes_per_s": bandwidth})


def _faster(gpu: Gpu, compute: Compute, kernels: Kernels, row: Relative) -> float | None:
    """How much more of an arithmetic's peak a GPU reaches than the tables' own; None: not known."""
    if compute in ("fp32", "tf32") or gpu.name == kernels.gpu:
        return None
    surface = nearest(kernels.gemm, compute)
    share = max(float(surface(m=rows, n=LARGE, k=LARGE)) for rows in LARGE_ROWS)
    if row.reached:
        named, reached = next(
            ((name, rate) for name, rate in row.reached.items() if name == compute),
            next(iter(row.reached.items())),
        )
        of_named = nearest(kernels.gemm, named)
        own_share = max(float(of_named(m=rows, n=LARGE, k=LARGE)) for rows in LARGE_ROWS)
        return reached * 1e12 / (load_gpu(gpu.like or gpu.name).peak(named) * own_share)
    measured = load_gpu(kernels.gpu)
    cut = gpu.peak(compute) < measured.peak_flops_per_s.get(compute, 0.0) / 2
    fed = gpu.bandwidth_bytes_per_s >= measured.bandwidth_bytes_per_s / 2
    return max(UNHINDERED / share, 1.0) if cut and fed else None
