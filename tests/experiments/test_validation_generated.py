"""Runs of deployments that aiconfigurator generated are not those of InferenceX."""

from experiments.validation.clients import is_inferencex
from experiments.validation.rows import row_of

CELLS = {
    "run_id": "one", "model": "Qwen/Qwen3-235B-A22B-FP8", "gpu": "h200", "n_gpus": "2", "tp": "2",
    "engine": "vllm", "engine_version": "0.12.0", "arrival_process": "closed loop",
    "max_concurrency": "16", "isl_mean": "4000", "osl_mean": "100", "tpot_mean_ms": "50",
    "workload": "random fixed (InferenceX: +-20% len jitter)",
    "notes": "source_file=/home/me/aic-auto-gap-analysis/data/h200_sxm/vllm/0.12.0/q.csv; adp=None",
}  # fmt: skip


def test_what_its_generator_writes_is_taken() -> None:
    row = row_of(CELLS)
    assert not is_inferencex(row)
    assert (row.max_num_seqs, row.max_num_batched_tokens, row.max_model_len) == (16, 5516, 5600)
    assert (row.prefix_caching, row.n_requests) == ("off", 320)
    others = row_of(CELLS | {"notes": "source_file=2026-04-06.csv"})
    assert is_inferencex(others)
    assert others.max_num_seqs is None


def test_what_a_row_says_stays() -> None:
    row = row_of(CELLS | {"max_num_batched_tokens": "8192", "max_num_seqs": "512"})
    assert (row.max_num_seqs, row.max_num_batched_tokens) == (512, 8192)


def test_seats_are_those_of_each_rank() -> None:
    cells = CELLS | {"tp": "1", "n_gpus": "1", "max_concurrency": "8"}
    row = row_of(cells | {"notes": f"{CELLS['notes']} moe_tp=2"})
    assert (row.data_parallel_size, row.max_concurrency, row.n_requests) == (2, 16, 320)
    assert (row.max_num_seqs, row.max_num_batched_tokens) == (8, 5508)
