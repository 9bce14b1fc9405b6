"""Measured kernels of attention and of what stands in its place: one call per layer and step."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from hardware.prices.surface import Surface

Floats = npt.NDArray[np.float64]
Numbers = Literal["bf16", "fp8", "fp4", "fp8_block", "int4", "mxfp4", "mxfp4_fp8"]
"""Arithmetic, or storage of weights whose products have kernels of their own."""


class DecodeKernel(BaseModel):
    """Attention of decoding sequences: affine in the KV positions that are read, above a floor.

    ``seconds = max(floor, base + kv_bytes / (bandwidth * share))``. The floor is what a call costs
    without context: launch, and one wave of blocks after another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    floor_s: Surface
    """Axes sequences, kv_heads, group (query heads per KV head); seconds."""
    base_s: Surface
    """Same axes; seconds."""
    bytes_share: Surface
    """Same axes; reached share of the memory's bandwidth."""

    def of_batches(
        self, sequences: npt.NDArray[np.int64], kv_heads: int, group: float
    ) -> tuple[Floats, Floats, Floats]:
        """Return floor and base (seconds) and share for batches of ``sequences``.

        More KV heads than were measured are taken for as many more sequences: the kernel cuts its
        work by both alike.
        """
        most = self.base_s.axes["kv_heads"][-1]
        rows = np.maximum(sequences, 1) * max(1.0, kv_heads / most)
        heads = min(kv_heads, most)
        beyond = np.maximum(1.0, rows / self.base_s.axes["sequences"][-1])
        beyond = np.where(sequences > 0, beyond, 0.0)
        floor_s = beyond * self.floor_s(sequences=rows, kv_heads=heads, group=group)
        base_s = beyond * self.base_s(sequences=rows, kv_heads=heads, group=group)
        return floor_s, base_s, self.bytes_share(sequences=rows, kv_heads=heads, group=group)


class MixerKernels(BaseModel):
    """Kernels of one kind of mixer that is not attention with grouped heads.

    What tables time is a layer's whole mixer; its matrix products, which are priced like all
    others, were taken off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    decode: dict[Numbers, DecodeKernel] = Field(min_length=1)
    """Of decoding sequences, by numbers of the cache."""
    prefill: dict[Numbers, Surface] = Field(min_length=1)
    """Of whole prompts; axes rows (query rows of a step), positions (mean keys of a row), heads (of
    the rank); share of the roofline."""
