"""Experts of a mixture on one GPU: by numbers, by backend, and where nobody tuned them."""

from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np

from experiments.calibrating.by_numbers import Found, by_numbers, parts
from experiments.calibrating.expert_fit import (
    expert_surface,
    other_backends,
    small_tile_surface,
)
from experiments.calibrating.kernel_tables import Table
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut
from hardware.prices.mixer_kernels import Numbers
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame

DTYPE = "moe_dtype"
UNEVEN = "power_law_1.01"
"""How the tables' experts are chosen: as unevenly as routers of hundreds of experts do, by times of
DeepSeek-R1 (aiconfigurator, collector, notes on its power law)."""
EVEN = "balanced"
FEW_EXPERTS = 8
"""Up to so many are chosen about evenly: of Mixtral's each has an eighth of the tokens, more or
less, whatever the text (arXiv 2401.04088, figure 7). That power law, whose loads lie between one
token and four fifths of all of them, would give one of eight a third."""
BACKENDS_OF: tuple[Numbers, ...] = ("fp8_block",)
"""Storages whose experts vLLM computes with one backend or another, by version and settings."""
SMALL_TILES_OF: tuple[Numbers, ...] = ("bf16",)
"""Storages whose experts are Triton's in every version before 0.17. Which kernels compute those in
fp8 depends on the checkpoint, and their tables have conversions in them that engines fuse."""


@dataclass(slots=True)
class ExpertFits:
    """What was fitted, as ``hardware.prices.kernels.Kernels`` keeps it."""

    fitted: Found = field(default_factory=dict)
    fitted_backend: dict[Numbers, str] = field(default_factory=dict)
    backends: dict[str, Found] = field(default_factory=dict)
    small_tiles: Found = field(default_factory=dict)

    def held_out(self) -> dict[str, HeldOut]:
        """Return how well shapes are predicted that were left out, by name."""
        named = {"experts": self.fitted}
        named |= {f"experts {name}": found for name, found in self.backends.items()}
        named["experts small tiles"] = self.small_tiles
        return {
            f"{name} {numbers}": check
            for name, found in named.items()
            for numbers, (_, check) in found.items()
        }


def experts_of(moe: Table | None, gpu: Gpu, l2_bytes: float) -> ExpertFits:
    """Fit the experts of a GPU's tables; None: it has none."""
    fits = ExpertFits()
    if moe is None:
        return fits
    chosen = Table(as_chosen(moe.rows), moe.version)
    fits.fitted = by_numbers(
        chosen, DTYPE, lambda rows, numbers: expert_surface(rows, gpu, numbers, l2_bytes)
    )
    for numbers, rows in parts(chosen, DTYPE):
        if "kernel_source" not in rows:
            continue
        if numbers in BACKENDS_OF and numbers in fits.fitted:
            surface = fits.fitted[numbers][0]
            first, found = other_backends(rows, gpu, numbers, l2_bytes, surface)
            fits.fitted_backend[numbers] = first
            for name, fit in found.items():
                fits.backends.setdefault(name, {})[numbers] = fit
        if numbers in SMALL_TILES_OF:
            small = small_tile_surface(rows, gpu, numbers, l2_bytes)
            fits.small_tiles |= {numbers: small} if small else {}
    return fits


def as_chosen(rows: "DataFrame") -> "DataFrame":
    """Return the rows of tables whose experts are chosen as those of a model are.

    Where they are chosen in turn few tokens touch more of them than a draw would: such rows take
    what a draw touches. A version's table that has no such rows keeps its others.
    """
    import pandas as pd

    few = rows.num_experts <= FEW_EXPERTS
    in_turn = few & (rows.distribution == EVEN)
    even = rows[in_turn]
    pairs = even.num_tokens * even.topk
    drawn = even.num_experts * (1 - (1 - even.topk / even.num_experts) ** even.num_tokens)
    even = even.assign(latency=even.latency * drawn / np.minimum(pairs, even.num_experts))
    of_table = rows[DTYPE] + rows.version
    timed = few & of_table.isin(of_table[in_turn])
    return pd.concat([rows[~timed & (rows.distribution == UNEVEN)], even])
