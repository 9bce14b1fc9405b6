"""Small tables of kernel times whose laws are known, in the layout of aiconfigurator."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from hardware.gpu import load_gpu

GPU = load_gpu("a100-80gb-sxm")
BANDWIDTH, PEAK = GPU.bandwidth_bytes_per_s, GPU.peak("bf16")


def write(root: Path, table: str, version: str, rows: pd.DataFrame) -> None:
    operator, library, file = table.split("/")
    folder = root / "a100_sxm" / operator / library / version
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / f"{file}.parquet")


def gemm_rows(share: float) -> pd.DataFrame:
    grid = product([1, 8, 64, 512, 4096], [256, 1024, 4096, 16384], [256, 1024, 4096, 16384])
    rows = pd.DataFrame(grid, columns=["m", "n", "k"]).astype(float)
    moved = 2 * (rows.m * rows.k + rows.n * rows.k + rows.m * rows.n)
    bound_s = np.maximum(2 * rows.m * rows.n * rows.k / PEAK, moved / BANDWIDTH)
    return rows.assign(gemm_dtype="bfloat16", latency=bound_s / share * 1e3)


def decode_rows() -> pd.DataFrame:
    grid = product(
        [1, 2, 4, 8, 16, 32, 64, 128, 256], [1, 15, 1023, 4095, 16383, 65535], [1, 2, 4, 8], [1, 4]
    )
    rows = pd.DataFrame(grid, columns=["batch_size", "step", "num_key_value_heads", "group"])
    rows["num_heads"] = rows.num_key_value_heads * rows.group
    read = rows.batch_size * (rows.step + 1) * rows.num_key_value_heads * 512 / (0.8 * BANDWIDTH)
    rows["latency"] = (1e-5 + read) * 1e3
    return rows.assign(head_dim=128, kv_cache_dtype="bfloat16", isl=1)


def prefill_rows() -> pd.DataFrame:
    grid = product([1, 4, 16], [64, 256, 1024, 4096], [4, 32], [1, 4])
    rows = pd.DataFrame(grid, columns=["batch_size", "isl", "num_heads", "group"])
    rows["num_key_value_heads"] = rows.num_heads // rows.group
    pairs = rows.batch_size * rows.isl * (rows.isl + 1) / 2
    flops = 512 * rows.num_heads * pairs
    heads = rows.num_heads + rows.num_key_value_heads
    moved = 512 * rows.batch_size * rows.isl * heads
    rows["latency"] = np.maximum(flops / PEAK, moved / BANDWIDTH) / 0.5 * 1e3
    return rows.assign(head_dim=128, kv_cache_dtype="bfloat16", step=0)


def collective_rows() -> pd.DataFrame:
    """All-reduces of so many elements of two bytes: 10 us, and 200 GB/s."""
    grid = product([2, 4, 8], [2**power for power in range(8, 28)])
    rows = pd.DataFrame(grid, columns=["num_gpus", "message_size"])
    rows["latency"] = (1e-5 + 2 * rows.message_size / 2e11) * 1e3
    return rows.assign(op_name="all_reduce", nccl_dtype="half")


def usual_tables(root: Path) -> Path:
    """Write what every calibration needs below ``root``."""
    write(root, "gemm/vllm/gemm_perf", "0.14.0", gemm_rows(0.6))
    write(root, "gemm/vllm/gemm_perf", "0.24.0", gemm_rows(0.5))
    write(root, "attention/vllm/generation_attention_perf", "0.14.0", decode_rows())
    write(root, "attention/vllm/context_attention_perf", "0.14.0", prefill_rows())
    write(root, "comm/nccl/nccl_perf", "2.27.3", collective_rows())
    return root
