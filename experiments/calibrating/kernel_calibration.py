"""From tables of kernel times to the kernels of one GPU."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.calibrating.by_numbers import by_numbers, parts, surfaces
from experiments.calibrating.expert_calibration import experts_of
from experiments.calibrating.kernel_fit import (
    HEAD_DIM,
    all_reduce_surface,
    decode_kernel,
    gemm_surface,
    of_gpu,
    prefill_possible,
    prefill_surface,
)
from experiments.calibrating.kernel_tables import (
    NUMBERS,
    SYSTEMS,
    Table,
    read_all,
    read_table,
    read_versions,
    tables_folder,
)
from experiments.calibrating.mixer_calibration import with_mixers
from experiments.calibrating.same_chip import with_same_chip
from hardware.calibration import Calibration
from hardware.engines.constants import ENGINES, constants_of, engine_constants
from hardware.engines.versions import version_key
from hardware.evidence import POOR_MEAN, CoveredRange
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, Kernels
from hardware.prices.surface import Surface

if TYPE_CHECKING:
    from pandas import DataFrame

L2_BYTES = {
    "a100-80gb-sxm": 40e6,
    "h100-sxm": 50e6,
    "h200-sxm": 50e6,
    "b200-sxm": 126e6,
    "b300-sxm": 126e6,
    "gb200": 126e6,
    "gb300": 126e6,
    "l40s": 96e6,
    "rtx-pro-6000": 128e6,
}
"""Of the L2 cache, from the vendor's architecture papers (Blackwell of data centers: both dies)."""

FEW_ROWS = 16
"""Products of so few rows must have been timed on the GPU; of an arithmetic whose small ones all
wait for launches the nearest one's are taken (fp8 for blocks of fp8)."""
LEAST_TIMED = 0.2
"""Part of those products."""
NCCL_VERSION = "2.27.99"
"""Of recent engines; tables differ little."""

NEWEST = "999"
"""Decode attention is taken from the newest tables: older ones read the cache of a single KV head
at a third of the rate that servers of their own time reach (H100, H200, tensor parallel over 8)."""

REDUCED_BYTES = 2
"""Of an element of the tables' all-reduces, whose ``message_size`` counts elements (collector of
aiconfigurator, collect_nccl.py and collect_all_reduce.py)."""
REPLAYED_BYTES = 8 * 2**20
"""Up to here vLLM's own all-reduces are those of CUDA graphs (``max_size`` of its
custom_all_reduce.py); larger ones, of 512 tokens of 8,192 numbers and more, are launched, or NCCL's
where that is faster."""


def kernels_from_tables(
    dir_or_package: str, gpu: Gpu, version: str, engine: str = "vllm"
) -> Kernels:
    """Fit the kernels of ``gpu`` as an engine's version uses them.

    Args:
        dir_or_package: see ``experiments.calibrating.kernel_tables.tables_folder``.
        gpu: of the catalogue; must be one of those that the tables hold.
        version: of the engine; prefill attention is of the table at or below it, else the nearest.
            Products, experts and all-reduces are the fastest of all, decodes the newest.
        engine: whose kernels.

    Raises:
        ValueError: no such tables, or a GPU or operator that they lack.
    """
    if gpu.name not in SYSTEMS:
        raise ValueError(f"--gpu {gpu.name}: no tables, expected one of {', '.join(SYSTEMS)}")
    folder = tables_folder(dir_or_package) / SYSTEMS[gpu.name]
    l2_bytes = L2_BYTES[gpu.name]
    gemm = _needed(read_all(folder, "gemm", engine, "gemm_perf"), folder, "gemm")
    moe = read_all(folder, "moe", engine, "moe_perf")
    prefill = _needed(_possible_prefill(folder, engine, version, gpu), folder, "context")
    generation = read_table(folder, "attention", engine, "generation_attention_perf", NEWEST)
    decode = _needed(generation, folder, "generation")
    nccl = _needed(read_table(folder, "comm", "nccl", "nccl_perf", NCCL_VERSION), folder, "comm")
    custom = read_all(folder, "comm", engine, "custom_allreduce_perf")
    gemm = with_same_chip(_timed(gemm), gpu, folder, engine, _timed)
    matrices = by_numbers(gemm, "gemm_dtype", lambda rows, n: gemm_surface(rows, gpu, n, l2_bytes))
    prefills = by_numbers(prefill, "kv_cache_dtype", lambda rows, _: prefill_surface(rows, gpu))
    decodes = {
        numbers: decode_kernel(rows, gpu, 1.0 if numbers == "fp8" else 2.0, l2_bytes)
        for numbers, rows in parts(_usual(decode), "kv_cache_dtype")
    }
    experts = experts_of(moe, gpu, l2_bytes)
    reduces = _all_reduces(custom, nccl)
    fused = _fused_all_reduces(folder)
    held_out = {
        f"{operator} {numbers}": check
        for operator, found in (
            ("gemm", matrices), ("prefill attention", prefills), ("decode attention", decodes),
        )
        for numbers, (_, check) in found.items()
    } | experts.held_out()  # fmt: skip
    kernels = Kernels(
        gpu=gpu.name,
        source=_source(engine, gemm, prefill, decode, nccl, custom, moe),
        gemm=surfaces(matrices),
        prefill_attention=surfaces(prefills),
        decode_attention={numbers: kernel for numbers, (kernel, _) in decodes.items()},
        all_reduce=reduces[0],
        fused_all_reduce=fused[0] if fused else None,
        experts=surfaces(experts.fitted),
        experts_backend=experts.fitted_backend,
        backends={name: surfaces(found) for name, found in experts.backends.items()},
        small_tiles=surfaces(experts.small_tiles),
        held_out=held_out
        | {"all-reduce": reduces[1]}
        | ({"all-reduce with norm": fused[1]} if fused else {}),
    )
    return with_mixers(kernels, folder, engine, gpu, l2_bytes)


def _needed(found: Table | None, folder: Path, operator: str) -> Table:
    if found is None:
        raise ValueError(f"{folder}: no tables of {operator}, which a calibration needs")
    return found


COVERED = CoveredRange(max_step_tokens=8192, max_context_tokens=131072, max_decodes=1024)
"""Where the tables have kernels."""


def _timed(gemm: Table) -> Table:
    """Arithmetics of which enough products of few rows were timed on the GPU."""
    import pandas as pd

    shapes = ["m", "n", "k"]
    parts = [gemm.rows[:0]]
    for _, rows in gemm.rows.groupby("gemm_dtype"):
        few = rows[rows.m <= FEW_ROWS]
        kept = of_gpu(rows)
        kept = kept[kept.m <= FEW_ROWS]
        if len(kept[shapes].drop_duplicates()) >= LEAST_TIMED * len(few[shapes].drop_duplicates()):
            parts.append(rows)
    return Table(pd.concat(parts), gemm.version)


def _possible_prefill(folder: Path, engine: str, version: str, gpu: Gpu) -> Table | None:
    """Prefill attention by numbers of the cache: the version's, or the next whose times can be.

    Some tables time kernels that have not run: they would pass the GPU's peak.
    """
    import pandas as pd

    found = read_versions(folder, "attention", engine, "context_attention_perf", version)
    parts, names = [], []
    for own in NUMBERS:
        for name, rows in found:
            part = _usual(Table(rows[rows.kv_cache_dtype == own], name))
            if len(part.rows) and prefill_possible(part.rows, gpu):
                parts.append(part.rows)
                names.append(name)
                break
    if not parts:
        return None
    return Table(pd.concat(parts, ignore_index=True), " and ".join(dict.fromkeys(names)))


def _usual(table: Table) -> Table:
    """Rows of the usual head dimension, without a window."""
    rows = table.rows
    rows = rows[rows.head_dim == HEAD_DIM]
    if "window_size" in rows:
        rows = rows[rows.window_size == 0]
    return Table(rows, table.version)


def _all_reduces(custom: Table | None, nccl: Table) -> tuple[Surface, HeldOut]:
    rows = nccl.rows
    rows = _in_bytes(rows[(rows.op_name == "all_reduce") & (rows.nccl_dtype == "half")])
    if custom is None:
        return all_reduce_surface(None, rows)
    replayed = custom.rows.kernel_source.str.endswith("graph")
    own = _in_bytes(custom.rows)
    own = own[replayed == (own.message_size <= REPLAYED_BYTES)]
    return all_reduce_surface(own, rows)


def _fused_all_reduces(folder: Path) -> tuple[Surface, HeldOut] | None:
    """All-reduces with a norm: FlashInfer's are TensorRT-LLM's, which its tables time."""
    table = read_table(folder, "comm", "trtllm", "custom_allreduce_perf", NEWEST)
    return all_reduce_surface(None, _in_bytes(table.rows)) if table else None


def _in_bytes(rows: "DataFrame") -> "DataFrame":
    """Ranks, size in bytes and latency of all-reduces of 16-bit numbers."""
    rows = rows[["num_gpus", "message_size", "latency"]]
    return rows.assign(message_size=REDUCED_BYTES * rows.message_size)


def _source(
    engine: str,
    gemm: Table,
    prefill: Table,
    decode: Table,
    nccl: Table,
    custom: Table | None,
    moe: Table | None,
) -> str:
    versions = {
        f"{engine} GEMM": gemm,
        "prefill attention": prefill,
        "decode attention": decode,
        "NCCL": nccl,
        "custom all-reduce": custom,
        "MoE": moe,
    }
    listed = ", ".join(f"{what} {table.version}" for what, table in versions.items() if table)
    return f"kernel tables of aiconfigurator (NVIDIA, Apache-2.0): {listed}"


def calibration_from_tables(
    dir_or_package: str, gpu: Gpu, engine: str, version: str, *, name: str
) -> Calibration:
    """Return kernels from tables and an engine's constants, as one calibration.

    Raises:
        ValueError: unknown engine, no such tables, or a GPU that they lack.
    """
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if version and not version_key(version):
        raise ValueError(f"--engine-version {version!r}: expected numbers such as 0.15.1")
    chosen = constants_of(version)
    constants = engine_constants()[chosen]
    kernels = kernels_from_tables(dir_or_package, gpu, version or constants.since, engine)
    return Calibration.model_validate(
        {
            "name": name,
            "source": f"{kernels.source}; {constants.source}",
            "gpu": gpu.name,
            "software": f"{engine} {version or constants.since}",
            "kernels": kernels,
            "covered": COVERED,
            **constants.values,
        }
    )


def describe_kernels(calibration: Calibration) -> str:
    """Say for every operator how well kernels of unseen shapes are predicted."""
    kernels = calibration.kernels
    assert kernels is not None
    lines = [
        f"{kernels.gpu}: {calibration.source}",
        f"{'held-out kernels':<24} {'median':>7} {'p90':>7}",
    ]
    for name, check in kernels.held_out.items():
        poor = "  POOR" if check.median > POOR_MEAN else ""
        lines.append(f"{name:<24} {check.median:>7.1%} {check.p90:>7.1%}  of {check.kernels}{poor}")
    return "\n".join(lines)


def draw(calibration: Calibration, path: Path) -> None:
    """Draw what was fitted: shares of the roofline by rows, and decode attention by sequences."""
    import numpy as np

    from experiments.reporting.drawing import drawing

    kernels = calibration.kernels
    assert kernels is not None
    with drawing(path, 9.5, 4.2) as figure:
        left, right = figure.subplots(1, 2)
        for numbers, surface in kernels.gemm.items():
            rows = np.array(surface.axes["m"])
            for n, style in ((1024, ":"), (4096, "--"), (16384, "-")):
                left.plot(rows, surface(m=rows, n=n, k=4096), style, label=f"{numbers}, n = {n}")
        left.set(xscale="log", xlabel="rows", ylabel="share of the roofline", ylim=(0, 1.3))
        left.set_title("matrix products, k = 4096")
        left.legend(fontsize=7, ncols=3, loc="upper center")
        for numbers, kernel in kernels.decode_attention.items():
            sequences = np.array(kernel.base_s.axes["sequences"], dtype=np.int64)
            floor_s, _, _ = kernel.of_batches(sequences, 8, 4)
            right.plot(sequences, floor_s * 1e6, label=f"{numbers} cache")
        right.set(xscale="log", yscale="log", xlabel="decoding sequences", ylabel="time (µs)")
        right.set_title("decode attention, contexts of one, 8 KV heads")
        right.legend(fontsize=7)
        figure.suptitle(f"{kernels.gpu}: measured kernels")
