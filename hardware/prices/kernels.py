"""Measured kernels of one GPU, as shares of its roofline.

A table of kernel times becomes a few compact surfaces; where nothing was measured, time follows the
roofline at the share of the nearest node. Prices are those of an engine, which finds neither
weights nor KV cache in the L2 cache, since a whole model has passed through it since the last time.

Not covered: matrix products narrower than the first node, but for routers
(``hardware.prices.routers``); head dimensions other than 128 are taken to reach the same shares.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator

from hardware.gpu import Gpu
from hardware.prices.deep_gemm import tiled_s
from hardware.prices.mixer_kernels import DecodeKernel, MixerKernels, Numbers
from hardware.prices.routers import along_inputs_s, narrow_s
from hardware.prices.surface import Surface
from hardware.roofline import operator_s
from model.operators import F, Operator

Floats = npt.NDArray[np.float64]
Measured = TypeVar("Measured")

DEEP_GEMM, TILED = "deep_gemm", "fp8_block"
"""vLLM's name of that backend, and how experts are stored that it computes."""
GATED_MATRICES = 3
"""Gate, up and down: experts were measured with all three."""

WIDENING = 0.04
"""Operations of the ordinary cores for each FLOP of a product whose stored weights are widened
beside it (Marlin): tiles of rows widen the same weights again and again. From int4 against 16-bit
experts of over 1,000 rows (H100 0.055, H200 0.076) and from servers of A100 and L20 that decode
hundreds of sequences (0.042 and less)."""

LIKE: dict[str, tuple[Numbers, ...]] = {
    "fp8_block": ("fp8_block",),
    "int4": ("int4",),
    "mxfp4": ("mxfp4", "int4"),
    "mxfp4_fp8": ("mxfp4_fp8",),
    "bf16": ("bf16",),
    "fp16": ("bf16",),
    "tf32": ("bf16",),
    "fp32": ("bf16",),
    "fp8": ("fp8", "bf16"),
    "int8": ("fp8", "bf16"),
    "fp4": ("fp4", "fp8", "bf16"),
}
"""Whose shares a storage or an arithmetic takes: its own, or the nearest that was measured."""


AXES = {
    "gemm": ("m", "n", "k"),
    "prefill_attention": ("rows", "positions", "group"),
    "decode_attention": ("sequences", "kv_heads", "group"),
    "mixer_prefill": ("rows", "positions", "heads"),
    "experts": ("rows", "width", "experts"),
    "all_reduce": ("ranks", "bytes"),
}
"""Coordinates of each surface."""


class HeldOut(BaseModel):
    """How well the surfaces predict kernels of shapes that they were not fitted to."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    median: NonNegativeFloat
    """Median of absolute relative errors; 0.05 is 5%."""
    p90: NonNegativeFloat
    """Nine in ten are below."""
    kernels: PositiveInt
    """How many kernel times."""


class Kernels(BaseModel):
    """What the kernels of one GPU reach."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    gpu: str
    """Catalogue name of the GPU that was measured."""
    source: str
    """Tables, versions, licence."""
    gemm: dict[Numbers, Surface] = Field(min_length=1)
    """Matrix products by arithmetic; axes m, n, k; share of the roofline."""
    prefill_attention: dict[Numbers, Surface] = Field(min_length=1)
    """Attention of prefill chunks by numbers of the KV cache; axes rows (query rows times heads),
    positions (mean keys of a row), group; share of the roofline of causal pairs."""
    decode_attention: dict[Numbers, DecodeKernel] = Field(min_length=1)
    """Attention of decoding sequences by numbers of the KV cache."""
    all_reduce: Surface | None = None
    """Axes ranks, bytes (of the buffer); seconds. None: the links stay a model."""
    all_reduce_of: str = ""
    """Catalogue name of the GPU whose links they went over; nothing: ``gpu``."""
    fused_all_reduce: Surface | None = None
    """The same of those that compute the norm behind them as well."""
    fused_up_to_bytes: dict[int, float] = Field(default_factory=dict)
    """By ranks: up to which buffer an engine takes those; nothing: for none."""
    experts: dict[Numbers, Surface] = Field(default_factory=dict)
    """Grouped products of mixtures of experts; axes rows (per expert), width (``expert_size``),
    experts (on a rank); share of the roofline."""
    experts_backend: dict[Numbers, str] = Field(default_factory=dict)
    """Whose kernels ``experts`` are where several were measured: names of vLLM's backends."""
    backends: dict[str, dict[Numbers, Surface]] = Field(default_factory=dict)
    """Experts as other backends compute them; axes as those of ``experts``."""
    small_tiles: dict[Numbers, Surface] = Field(default_factory=dict)
    """Experts as Triton computes them in vLLM's default configuration of before 0.17, which holds
    for shapes that were not tuned; axes as those of ``experts``."""
    tiled_experts: Literal["touched", "all"] | None = None
    """Experts in fp8 blocks are DeepGEMM's (``hardware.prices.deep_gemm``), a law and no table:
    tiles of those that are touched are computed, or of all."""
    mixers: dict[str, MixerKernels] = Field(default_factory=dict)
    """Of other mixers than attention with grouped heads, by their kind (``model.mixers``)."""
    held_out: dict[str, HeldOut] = Field(default_factory=dict)
    """By operator and arithmetic."""

    @model_validator(mode="after")
    def _has_its_axes(self) -> Self:
        for kind, surface in self._surfaces():
            if set(surface.axes) != set(AXES[kind]):
                found, expected = ", ".join(surface.axes), ", ".join(AXES[kind])
                raise ValueError(f"{kind} has the axes {found}, expected {expected}")
        return self

    def _surfaces(self) -> Iterator[tuple[str, Surface]]:
        for kind in ("gemm", "prefill_attention", "experts"):
            for surface in getattr(self, kind).values():
                yield kind, surface
        for surfaces in (*self.backends.values(), self.small_tiles):
            for surface in surfaces.values():
                yield "experts", surface
        decodes = list(self.decode_attention.values())
        for mixer in self.mixers.values():
            decodes += mixer.decode.values()
            for surface in mixer.prefill.values():
                yield "mixer_prefill", surface
        for kernel in decodes:
            for part in (kernel.floor_s, kernel.base_s, kernel.bytes_share):
                yield "decode_attention", part
        for reduce in (self.all_reduce, self.fused_all_reduce):
            if reduce is not None:
                yield "all_reduce", reduce

    def with_backend(self, backend: str, *, empty_tiles: bool = False) -> "Kernels":
        """Return kernels whose experts are a backend's, as far as those were measured apart.

        ``empty_tiles``: whether DeepGEMM computes tiles that nobody has, too.
        """
        if backend == DEEP_GEMM:
            return self.model_copy(update={"tiled_experts": "all" if empty_tiles else "touched"})
        others = self.backends.get(backend)
        return self.model_copy(update={"experts": self.experts | others}) if others else self

    def with_small_tiles(self, stored: str) -> "Kernels":
        """Return kernels whose experts of a storage are computed in small tiles, if measured."""
        found = {numbers: one for numbers, one in self.small_tiles.items() if numbers == stored}
        return self.model_copy(update={"experts": self.experts | found}) if found else self

    def backends_of(self, stored: str) -> tuple[str, ...]:
        """Return the backends whose experts of a storage were measured apart."""
        first = (backend for numbers, backend in self.experts_backend.items() if numbers == stored)
        more = (name for name, surfaces in self.backends.items() if stored in {*surfaces})
        return (*first, *more)

    def tiles(self, operator: Operator) -> bool:
        """Tell whether DeepGEMM computes a product of experts."""
        blocks = operator.groups > 1 and operator.stored == TILED
        return blocks and self.tiled_experts is not None

    def gemm_s(self, operator: Operator, gpu: Gpu) -> Floats:
        """Return the seconds of one execution of a matrix product, or of all experts' together."""
        assert operator.gemm is not None
        rows, n, k = operator.gemm
        if self.tiles(operator):
            return tiled_s(operator, gpu, whole_room=self.tiled_experts == "all")
        if operator.compute == "fp32" and "bf16" in gpu.peak_flops_per_s:
            # No table has it: as long as in 16 bits, and at least what its own bounds say.
            halves = operator.weight_bytes / 2, operator.activation_bytes / 2
            narrow = replace(
                operator, compute="bf16", weight_bytes=halves[0], activation_bytes=halves[1]
            )
            own_s = product_bound_s(operator, gpu) + along_inputs_s(rows, k, gpu)
            return np.maximum(self.gemm_s(narrow, gpu), own_s)
        bound_s = product_bound_s(operator, gpu)
        if operator.groups > 1 and self.experts:
            each = np.maximum(rows, 1e-9) / operator.groups
            share = nearest(self.experts, operator.compute, operator.stored)(
                rows=each, width=expert_size(n / GATED_MATRICES, k), experts=operator.groups
            )
        else:
            surface = nearest(self.gemm, operator.compute, operator.stored)
            share = surface(m=np.maximum(rows, 1.0), n=n, k=k)
            return np.maximum(bound_s / share, narrow_s(operator, surface, gpu))
        return np.asarray(bound_s / share)

    def reduces(self, ranks: int) -> bool:
        """Whether all-reduces of that many ranks lie within what was measured."""
        nodes = self.all_reduce.axes["ranks"] if self.all_reduce is not None else ()
        return bool(nodes) and nodes[0] <= ranks <= nodes[-1]

    def all_reduce_s(self, bytes_: Floats, ranks: int, *, fused: bool = False) -> Floats:
        """Return the seconds of one all-reduce; beyond the largest buffer, in proportion to it.

        ``fused``: a norm stands behind it, which the same kernel computes where an engine has that.
        """
        assert self.all_reduce is not None
        largest = self.all_reduce.axes["bytes"][-1]
        seconds = self.all_reduce(ranks=ranks, bytes=np.maximum(bytes_, 1.0))
        seconds = seconds * np.maximum(1.0, bytes_ / largest)
        if fused and self.fused_all_reduce is not None:
            together = self.fused_all_reduce(ranks=ranks, bytes=np.maximum(bytes_, 1.0))
            seconds = np.where(bytes_ <= self.fused_up_to_bytes.get(ranks, 0.0), together, seconds)
        return np.where(bytes_ > 0, seconds, 0.0)


def product_bound_s(operator: Operator, gpu: Gpu) -> Floats:
    """Return the roofline of a product; widening stored weights takes ordinary cores, too."""
    peak = gpu.peak(operator.compute)
    if operator.weight_only and "fp32" in gpu.peak_flops_per_s:
        peak = 1.0 / (1.0 / peak + WIDENING / gpu.peak("fp32"))
    bandwidth = gpu.bandwidth_bytes_per_s
    return np.asarray(operator_s(operator.flops, operator.bytes, peak, bandwidth))


def expert_size(width: F, hidden: F) -> F:
    """Return the width of an expert on a rank, as it would be with 4,096 inputs.

    The share that its kernel reaches grows with either, and follows their geometric mean.
    """
    return width * (hidden / 4096) ** 0.5


def nearest(measured: dict[Numbers, Measured], compute: str, stored: str | None = None) -> Measured:
    """Return what was measured of a storage or an arithmetic, or else of the one most like it."""
    for name in (*LIKE.get(stored or "", ()), *LIKE[compute]):
        if name in measured:
            return measured[name]
    return next(iter(measured.values()))
