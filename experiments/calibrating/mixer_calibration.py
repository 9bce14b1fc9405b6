"""Adds kernels of mixers beside grouped attention to those of a GPU, from tables of its layers."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.calibrating.kernel_tables import NUMBERS, Table, read_all
from experiments.calibrating.latent_fit import around_s, latent_decode, latent_prefill
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, Kernels
from hardware.prices.mixer_kernels import DecodeKernel, MixerKernels, Numbers
from hardware.prices.surface import Surface

if TYPE_CHECKING:
    from pandas import Series


def with_mixers(kernels: Kernels, folder: Path, engine: str, gpu: Gpu, l2_bytes: float) -> Kernels:
    """Return kernels with those of latent attention, where the GPU has tables of it.

    Args:
        kernels: matrix products and the rest.
        folder: of the GPU's tables.
        engine: whose kernels.
        gpu: of the catalogue.
        l2_bytes: of its cache.
    """
    decoding = _products_in_16_bits(read_all(folder, "mla", engine, "mla_generation_module_perf"))
    prompts = _products_in_16_bits(read_all(folder, "mla", engine, "mla_context_module_perf"))
    if decoding is None or prompts is None:
        return kernels
    around = _around(decoding, folder, engine, kernels, gpu)
    decode: dict[Numbers, DecodeKernel] = {}
    prefill: dict[Numbers, Surface] = {}
    checks: dict[str, HeldOut] = {}
    for name, numbers in NUMBERS.items():
        rows = decoding.rows[decoding.rows.kv_cache_dtype == name]
        if len(rows):
            found, check = latent_decode(rows, kernels, gpu, numbers, l2_bytes, around)
            decode[numbers], checks[f"latent decode {numbers}"] = found, check
        rows = prompts.rows[prompts.rows.kv_cache_dtype == name]
        if len(rows):
            surface, check = latent_prefill(rows, kernels, gpu, numbers, around)
            prefill[numbers], checks[f"latent prefill {numbers}"] = surface, check
    mixers = kernels.mixers | {"latent": MixerKernels(decode=decode, prefill=prefill)}
    return kernels.model_copy(
        update={
            "mixers": mixers,
            "held_out": kernels.held_out | checks,
            "source": f"{kernels.source}, latent attention {decoding.version}",
        }
    )


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
        for table in (decoding, alone)
    )
    layers, kernel = tables
    assert layers is not None
    return around_s(layers, kernel, absorbed.rows if absorbed else None, kernels, gpu)


def _products_in_16_bits(table: Table | None) -> Table | None:
    """Layers whose matrix products are in bf16: kernels around them, launches in graphs alike."""
    if table is None:
        return None
    return Table(table.rows[table.rows.gemm_type == "bfloat16"], table.version)
