"""GPUs as data: peaks, memory, links and prices, every figure with its source."""

import difflib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from hardware.servers import server_of, without_count
from hardware.yaml_file import Row, read_bundled, validated
from model.dataclass import dataclass
from model.kept import kept

__all__ = [
    "Compute",
    "Gpu",
    "UnknownGpuError",
    "UnsupportedPrecisionError",
    "gpu_names",
    "load_gpu",
]

Compute = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]

_UNITS = {
    "GiB": 2.0**30,
    "GB/s": 1e9,
    "TB/s": 1e12,
    "TFLOP/s": 1e12,
    "us": 1e-6,
    "USD/h": 1.0,
    "sm": 1.0,
}

MAPPING = (
    "{like: NAME, memory_bytes: ..., bandwidth_bytes_per_s: ..., peak_flops_per_s: {bf16: ...}}"
)
"""How a study writes a GPU that the catalogue does not hold."""

_NOISE = frozenset(
    ("nvidia", "amd", "tesla", "geforce", "instinct", "gpu", "hgx", "dgx", "oam", "ac")
)
_MEMORY_TYPES = frozenset(("hbm2", "hbm2e", "hbm3", "hbm3e"))
_SXM = re.compile(r"sxm\d")
_SIZE = re.compile(r"(?<![a-z0-9])(\d+)-?(?:gb|gib|g)(?![a-z0-9])")

_INSTEAD = {"bf16": "set dtype: float16", "int8": "set quantization: fp8, or none"}


Memory = Annotated[int, Field(gt=0, le=10**15)]
Rate = Annotated[float, Field(gt=0, le=1e21)]
"""Bytes or operations per second. With the bounds no step takes longer than a float can tell."""


class UnknownGpuError(ValueError):
    """A GPU that the catalogue does not hold."""


class UnsupportedPrecisionError(ValueError):
    """Arithmetic that a GPU has no units for."""


class Gpu(BaseModel):
    """What the cost model knows of one GPU. Peaks are the vendor's, for dense matrices."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    name: str = "custom"
    """What results call it."""
    like: str | None = None
    """The GPU of the catalogue whose figures it has, but for those that are given."""
    memory_bytes: Memory
    """What the driver offers to a process: the total of cudaMemGetInfo."""
    nominal_memory_bytes: Memory | None = None
    """What the vendor sells."""
    bandwidth_bytes_per_s: Rate
    """Of the memory."""
    peak_flops_per_s: dict[Compute, Rate] = Field(min_length=1)
    """Dense peak of each arithmetic that the GPU has: fp32 tf32 fp16 bf16 fp8 int8 fp4."""
    compute_capability: PositiveFloat | None = None
    """NVIDIA's version of the architecture: 8.0 for an A100, 9.0 for an H100. It decides which
    quantized weights an engine can run; without one none is refused for its age."""
    link: str = "none"
    """What joins GPUs of one server."""
    gpus_per_server: Annotated[int, Field(ge=1, le=4096)] = 8
    """GPUs that these links join: of one server, or of a rack whose servers NVLink joins. A larger
    group is made of several, over the network. Default: as many as most servers hold."""
    link_bytes_per_s: Rate | None = None
    """Of one GPU's links together, in one direction. Needed for tensor parallelism."""
    link_peer_bytes_per_s: Rate | None = None
    """Where every pair of GPUs has a link of its own (a full mesh): the rate of one, in one
    direction. A group uses the links between its members only."""
    link_latency_s: Annotated[float, Field(ge=0, le=1)] = 1e-6
    """Of one hop. Default: NCCL's figure for PCIe."""
    network_bytes_per_s: Rate | None = None
    """Between servers: the share of one GPU of its server's network cards, in one direction. Needed
    for groups of more GPUs than the links join."""
    network_latency_s: Annotated[float, Field(ge=0, le=1)] = 2.7e-6
    """Of one hop between servers. Default: NCCL's figure for a network, ring, LL protocol."""
    usd_per_hour: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """On-demand price of one GPU."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Where each figure comes from, by field."""

    def is_one_of(self, words: Collection[str]) -> bool:
        """Tell whether its name, or that of the GPU it is like, holds one of some words."""
        return any(word in f"{self.name} {self.like or ''}".lower() for word in words)

    def peak(self, compute: str) -> float:
        """Return the dense peak of one arithmetic in FLOP/s (or integer operations/s).

        Raises:
            UnsupportedPrecisionError: the GPU lacks it; names what it has.
        """
        for known, flops_per_s in self.peak_flops_per_s.items():
            if known == compute:
                return flops_per_s
        hint = f": {_INSTEAD[compute]}" if compute in _INSTEAD else ""
        raise UnsupportedPrecisionError(
            f"gpu {self.name} has no {compute} arithmetic, expected one of "
            f"{', '.join(self.peak_flops_per_s)}{hint}"
        )


@dataclass(frozen=True, kw_only=True)
class _Source(Row):
    title: str
    url: str
    date: str


@dataclass(frozen=True, kw_only=True)
class _Figure(Row):
    value: PositiveFloat
    unit: Literal["GiB", "GB/s", "TB/s", "TFLOP/s", "us", "USD/h", "sm"]
    source: str
    kind: Literal["dense"] | None = None
    note: str | None = None

    def si(self) -> float:
        return self.value * _UNITS[self.unit]


@dataclass(frozen=True, kw_only=True)
class _Entry(Row):
    aliases: list[str]
    compute_capability: _Figure | None = None
    memory: _Figure
    nominal_memory: _Figure
    bandwidth: _Figure
    peak: dict[Compute, _Figure]
    link: str
    link_rate: _Figure
    link_peer_rate: _Figure | None = None
    link_latency: _Figure
    network_rate: _Figure | None = None
    price: _Figure | None = None
    gpus_per_server: PositiveInt = 8


@dataclass(frozen=True, kw_only=True)
class _Catalogue(Row):
    sources: dict[str, _Source]
    gpus: dict[str, _Entry]


@lru_cache(maxsize=1)
def _catalogue() -> tuple[dict[str, Gpu], dict[str, str]]:
    """GPUs by name, and names by alias."""
    return kept("gpus", _read)


def _read() -> tuple[dict[str, Gpu], dict[str, str]]:
    path = Path(__file__).parent / "gpus.yaml"
    file = validated(_Catalogue, read_bundled(path), path.name)
    gpus = {name: _gpu(name, entry, file.sources) for name, entry in file.gpus.items()}
    aliases = {alias: name for name, entry in file.gpus.items() for alias in entry.aliases}
    return gpus, aliases


def _gpu(name: str, entry: _Entry, sources: dict[str, _Source]) -> Gpu:
    known = {
        "compute_capability": entry.compute_capability,
        "memory_bytes": entry.memory,
        "nominal_memory_bytes": entry.nominal_memory,
        "bandwidth_bytes_per_s": entry.bandwidth,
        "link_bytes_per_s": entry.link_rate,
        "link_peer_bytes_per_s": entry.link_peer_rate,
        "link_latency_s": entry.link_latency,
        "network_bytes_per_s": entry.network_rate,
        "usd_per_hour": entry.price,
    }
    figures = {field: figure for field, figure in known.items() if figure is not None}
    peaks = {f"peak_flops_per_s.{compute}": figure for compute, figure in entry.peak.items()}
    whole = ("memory_bytes", "nominal_memory_bytes")
    values: dict[str, object] = {
        field: int(figure.si()) if field in whole else figure.si()
        for field, figure in figures.items()
    }
    values |= {
        "name": name,
        "peak_flops_per_s": {compute: figure.si() for compute, figure in entry.peak.items()},
        "link": entry.link,
        "gpus_per_server": entry.gpus_per_server,
        "sources": {field: _citation(one, sources) for field, one in (figures | peaks).items()},
    }
    return Gpu.model_validate(values)


def _citation(figure: _Figure, sources: dict[str, _Source]) -> str:
    source = sources[figure.source]
    kind = f" {figure.kind}" if figure.kind else ""
    note = f" ({figure.note})" if figure.note else ""
    return (
        f"{figure.value:g} {figure.unit}{kind}{note}: {source.title}, {source.date}, {source.url}"
    )


def gpu_names() -> tuple[str, ...]:
    """Names of the catalogue, without aliases, in its order."""
    return tuple(_catalogue()[0])


def load_gpu(gpu: str | Mapping[str, object]) -> Gpu:
    """Return a GPU of the catalogue, or the one that a mapping describes.

    Args:
        gpu: a name or an alias, in any case and order of its words, also as the driver prints it
            (``NVIDIA A100-SXM4-80GB``); or a mapping with the fields of ``Gpu``. With a key
            ``like`` the mapping only overrides fields of that GPU of the catalogue.

    Raises:
        UnknownGpuError: no such name; names the nearest.
        ValueError: a mapping with missing, unknown or impossible fields; lists all of them.
    """
    if not isinstance(gpu, str):
        return _from_mapping(dict(gpu))
    gpus, aliases = _catalogue()
    written = re.sub(r"[\s_()/-]+", "-", gpu.strip().lower()).strip("-")
    name = _SIZE.sub(r"\1gb", written)
    found = _spelled(name)
    if found is not None:
        return gpus[found]
    if several := _of_several(name):
        raise UnknownGpuError(
            f"gpu = {gpu!r}: expected the name of one, {several}; how many there are is said by "
            "tensor_parallel_size and replicas"
        )
    if server := server_of(written):
        count, inside = server
        raise UnknownGpuError(
            f"gpu = {gpu!r} is a server with {count} of {inside}: expected gpu: {inside}; how many "
            "there are is said by tensor_parallel_size and replicas"
        )
    if part := _part_of(written):
        raise UnknownGpuError(
            f"gpu = {gpu!r} is a part of {part}, and parts (MIG, vGPU) are not modelled: expected "
            f"{part}, or a mapping with the part's own figures: {MAPPING}"
        )
    if other := _with_other_memory(name):
        raise UnknownGpuError(
            f"gpu = {gpu!r} is not in the catalogue, where {other} has "
            f"{(gpus[other].nominal_memory_bytes or 0) >> 30} GB, expected what differs: {MAPPING}"
        )
    raise UnknownGpuError(
        f"gpu = {gpu!r} is not in the catalogue, expected one of {', '.join(gpus)}"
        f"{_typo(name, [*gpus, *aliases])}; or a mapping with its own figures, all of them or what "
        f"differs from a relative: {MAPPING}"
    )


def _of_several(name: str) -> str | None:
    """The GPU of a name that says how many there are."""
    one = without_count(name)
    return None if one == name else _spelled(one)


def _part_of(written: str) -> str | None:
    """The GPU of a MIG slice (``a100-sxm4-80gb-mig-1g.10gb``) or of a vGPU (``a40-24q``)."""
    found = re.fullmatch(r"(?:grid-)?(.+?)-(?:mig-)?(?:\d+c?\.?\d*g\.\d+gb.*|\d+[abcq])", written)
    return None if found is None else _spelled(_SIZE.sub(r"\1gb", found[1]))


def _with_other_memory(name: str) -> str | None:
    """The GPU that has another size of memory than a name says."""
    return _spelled("-".join(word for word in name.split("-") if not _SIZE.fullmatch(word)))


def _typo(name: str, known: list[str]) -> str:
    """The GPU that was meant, if but letters differ: another number is another GPU, and so is
    another letter before it (B100, V100)."""

    def numbered(text: str) -> list[str]:
        return re.findall(r"[a-z]*\d+", text.replace("rtx", ""))

    alike = [one for one in known if numbered(one) == numbered(name)]
    close = difflib.get_close_matches(name, alike, 1, cutoff=0.75)
    return f"; did you mean {close[0]!r}?" if close else ""


@lru_cache(maxsize=1024)
def _spelled(name: str) -> str | None:
    """Find the name that a spelling stands for: as it is, or in other words.

    A size of memory or a link that the GPU has anyway says nothing; another one is another GPU.
    """
    gpus, aliases = _catalogue()
    names = aliases | {entry: entry for entry in gpus}
    exact = {_words(alias): entry for alias, entry in names.items()}
    loose = {
        _words(alias): entry for alias, entry in names.items() if not _MEMORY_TYPES & _words(alias)
    }
    words = _words(name)
    fewer = words - _MEMORY_TYPES
    found = names.get(name) or exact.get(words) or loose.get(fewer)
    if found is not None:
        return found
    sizes = {word for word in fewer if _SIZE.fullmatch(word)}
    candidate = loose.get(fewer - sizes - {"pcie"})
    if candidate is None:
        return None
    gpu = gpus[candidate]
    nominal = f"{(gpu.nominal_memory_bytes or 0) >> 30}gb"
    right_link = "pcie" not in fewer or gpu.link.startswith("PCIe")
    return candidate if sizes <= {nominal} and right_link else None


def _words(name: str) -> frozenset[str]:
    """The words of a name that tell GPUs apart: no maker, kind of server or generation of SXM."""
    words = (_SXM.sub("sxm", word) for word in name.split("-"))
    return frozenset(word for word in words if word and word not in _NOISE)


def _from_mapping(fields: dict[str, object]) -> Gpu:
    like = fields.pop("like", None)
    if like is None:
        return validated(Gpu, fields, "gpu")
    if not isinstance(like, str):
        raise ValueError(f"gpu: like = {like!r}, expected a name of the catalogue")
    base = load_gpu(like)
    kept = {key: text for key, text in base.sources.items() if key.split(".")[0] not in fields}
    defaults = base.model_dump() | {
        "name": f"{base.name}-modified", "like": base.name, "sources": kept,
    }  # fmt: skip
    return validated(Gpu, defaults | fields, "gpu")
