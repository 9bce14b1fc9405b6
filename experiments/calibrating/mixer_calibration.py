"""Adds kernels of mixers beside grouped attention to those of a GPU, from tables of its layers."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.calibrating.kernel_tables import NUMBERS, Table, read_all
from experiments.calibrating.latent_fit import around_s, latent_decode, latent_prefill
from experiments.calibrating.layer_families import (
    CHOSEN_BLOCKS,
    SPARSE_LATENT,
    LayerFamily,
)
from experiments.calibrating.sparse_fit import Timed, sparse_decode, sparse_prefill
from experiments.calibrating.state_fit import state_kernels
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, Kernels
from hardware.prices.mixer_kernels import DecodeKernel, MixerKernels, Numbers
from hardware.prices.surface import Surface

if TYPE_CHECKING:
    from pandas import DataFrame, Series


Fitted = tuple[MixerKernels, dict[str, HeldOut], str]
Fit = Callable[[Kernels, Path, str, Gpu, float], Fitted | None]


def with_mixers(kernels: Kernels, folder: Path, engine: str, gpu: Gpu, l2_bytes: float) -> Kernels:
    """Return kernels with those of other mixers, as far as the GPU has tables of them.

    Args:
        kernels: matrix products and the rest.
        folder: of the GPU's tables.
        engine: whose kernels.
        gpu: of the catalogue.
        l2_bytes: of its cache.
    """
    fits: dict[str, Fit] = {
        "latent": _latent,
        "sparse latent": partial(_sparse, SPARSE_LATENT, "sparse_attention", "dsa"),
        "block sparse": partial(_sparse, CHOSEN_BLOCKS, "msa", "msa"),
        "delta": _delta,
        "delta per channel": _delta_per_channel,
    }
    found = {kind: fit(kernels, folder, engine, gpu, l2_bytes) for kind, fit in fits.items()}
    mixers: dict[str, MixerKernels] = {}
    checks: dict[str, HeldOut] = {}
    sources = [kernels.source]
    for kind, fitted in found.items():
        if fitted is not None:
            mixers[kind], more, source = fitted
            checks |= more
            sources.append(f"{kind} layers {source}")
    return kernels.model_copy(
        update={
            "mixers": kernels.mixers | mixers,
            "held_out": kernels.held_out | checks,
            "source": ", ".join(sources),
        }
    )


def _latent(
    kernels: Kernels, folder: Path, engine: str, gpu: Gpu, l2_bytes: float
) -> Fitted | None:
    decoding = _products_in_16_bits(read_all(folder, "mla", engine, "mla_generation_module_perf"))
    prompts = _products_in_16_bits(read_all(folder, "mla", engine, "mla_context_module_perf"))
    if decoding is None or prompts is None:
        return None
    around = _around(decoding, folder, engine, kernels, gpu)
    decode: dict[Numbers, DecodeKernel] = {}
    prefill: dict[Numbers, Surface] = {}
    checks: dict[str, HeldOut] = {}
    for numbers, rows in _by_cache(decoding):
        decode[numbers], checks[f"latent decode {numbers}"] = latent_decode(
            rows, kernels, gpu, numbers, l2_bytes, around
        )
    for numbers, rows in _by_cache(prompts):
        prefill[numbers], checks[f"latent prefill {numbers}"] = latent_prefill(
            rows, kernels, gpu, numbers, around
        )
    return MixerKernels(decode=decode, prefill=prefill), checks, decoding.version


def _sparse(
    family: LayerFamily,
    tables: str,
    prefix: str,
    kernels: Kernels,
    folder: Path,
    engine: str,
    gpu: Gpu,
    l2_bytes: float,
) -> Fitted | None:
    """Fit the layers of a family, from the tables ``PREFIX_generation`` and ``PREFIX_context``."""
    decoding, prompts = (
        _products_in_16_bits(read_all(folder, tables, engine, f"{prefix}_{phase}_module_perf"))
        for phase in ("generation", "context")
    )
    layers = read_all(folder, "mla", engine, "mla_generation_module_perf")
    if decoding is None or prompts is None or layers is None:
        return None
    around = _around(layers, folder, engine, kernels, gpu) if family.unfused else None
    timed = Timed(family, kernels, gpu, around)
    decode: dict[Numbers, DecodeKernel] = {}
    prefill: dict[Numbers, Surface] = {}
    checks: dict[str, HeldOut] = {}
    for numbers, rows in _by_cache(decoding):
        name = f"{family.kind} decode {numbers}"
        decode[numbers], checks[name] = sparse_decode(rows, timed, numbers, l2_bytes)
    for numbers, rows in _by_cache(prompts):
        name = f"{family.kind} prefill {numbers}"
        whole = rows[rows.step == 0]
        prefill[numbers], checks[name] = sparse_prefill(whole, timed, numbers)
    return MixerKernels(decode=decode, prefill=prefill), checks, decoding.version


def _delta(kernels: Kernels, folder: Path, engine: str, gpu: Gpu, l2_bytes: float) -> Fitted | None:
    return _states(read_all(folder, "linear_attention", engine, "gdn_perf"), gpu, "delta")


def _delta_per_channel(
    kernels: Kernels, folder: Path, engine: str, gpu: Gpu, l2_bytes: float
) -> Fitted | None:
    return _states(read_all(folder, "kda", engine, "kda_perf"), gpu, "delta per channel")


def _states(table: Table | None, gpu: Gpu, kind: str) -> Fitted | None:
    if table is None:
        return None
    found, decoded, scanned = state_kernels(
        table.rows, gpu, decay_per_channel=kind == "delta per channel"
    )
    return found, {f"{kind} decode": decoded, f"{kind} prefill": scanned}, table.version


def _by_cache(table: Table) -> "Iterator[tuple[Numbers, DataFrame]]":
    for name, numbers in NUMBERS.items():
        rows = table.rows[table.rows.kv_cache_dtype == name]
        if len(rows):
            yield numbers, rows


KERNELS_OF = "sglang"
"""Engine whose tables have the decoding kernel alone: the libraries' kernels are the same."""


def _around(
    decoding: Table, folder: Path, engine: str, kernels: Kernels, gpu: Gpu
) -> "Series | None":
    """Seconds of a layer's kernels beside products and attention, where tables tell them apart."""
    alone = read_all(folder, "mla", KERNELS_OF, "generation_mla_perf")
    absorbed = read_all(folder, "mla_bmm", engine, "mla_bmm_perf")
    tables = (
        table.rows[table.rows.kv_cache_dtype == "bfloat16"] if table else None
        for table in (_products_in_16_bits(decoding), alone)
    )
    layers, kernel = tables
    assert layers is not None
    return around_s(layers, kernel, absorbed.rows if absorbed else None, kernels, gpu)


def _products_in_16_bits(table: Table | None) -> Table | None:
    """Layers whose matrix products are in bf16: kernels around them, launches in graphs alike."""
    if table is None or "gemm_type" not in table.rows:
        return table
    return Table(table.rows[table.rows.gemm_type == "bfloat16"], table.version)
