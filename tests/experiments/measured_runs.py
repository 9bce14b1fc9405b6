"""Small tables of measured runs and their per-request files, written by tests."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

RUN = {
    "dataset": "here",
    "tier": "A",
    "engine": "vllm",
    "engine_version": "0.15.1",
    "model": "meta-llama/Llama-2-7b-hf",
    "precision": "fp16/bf16",
    "gpu": "H100-80GB-SXM",
    "n_gpus": "1.0",
    "tp": "1.0",
    "pp": "1.0",
    "dp_replicas": "1.0",
    "mode": "agg",
    "max_num_seqs": "128.0",
    "max_num_batched_tokens": "2048.0",
    "chunked_prefill": "on(v1 default)",
    "prefix_caching": "on(v1 default)",
    "arrival_process": "poisson",
    "request_rate_rps": "2.0",
    "isl_spec": "fixed 200",
    "osl_spec": "fixed 20 (ignore_eos)",
    "duration_s": "20",
}
"""Cells of a run that can be predicted."""


def run(run_id: str, **cells: str) -> dict[str, str]:
    """Return one row: ``RUN`` with other cells."""
    return {"run_id": run_id, **RUN, **cells}


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Write a table of runs; its columns are those of all rows together."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_requests(path: Path, columns: str, rows: Iterable[Sequence[object]]) -> Path:
    """Write a per-request file, gzipped if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n"
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
