"""Rows of engines whose attention is data-parallel."""

import pytest

from experiments.validation.rows import RunRow, row_of
from experiments.validation.settings import setup_of
from tests.experiments.measured_runs import run

MINIMAX = {"model": "MiniMaxAI/MiniMax-M2.5", "precision": "fp8", "gpu": "B200"}
QWEN = {"model": "Qwen/Qwen3-235B-A22B-FP8", "precision": "fp8", "gpu": "H200"}


def row(**cells: str) -> RunRow:
    return row_of(run("a", **{"tp": "", "n_gpus": "", "dp_replicas": ""} | cells))


def sizes(**cells: str) -> tuple[int, int, int, bool]:
    setup = setup_of(row(**cells), 1000)
    cluster = setup.cluster
    return (
        cluster.tensor_parallel_size,
        cluster.data_parallel_size,
        cluster.replicas,
        setup.engine.enable_expert_parallel,
    )


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"tp": "4", "ep": "4"}, (4, 1, 1, True)),
        ({"tp": "2", "ep": "4"}, (2, 2, 1, True)),
        ({"tp": "1", "ep": "4", "dp_replicas": "4"}, (1, 4, 1, True)),
        ({"tp": "1", "ep": "4", "dp_replicas": "8"}, (1, 4, 2, True)),
        ({"tp": "1", "data_parallel_size": "4", "ep": "4"}, (1, 4, 1, True)),
        ({"tp": "4", "dp_replicas": "2"}, (4, 1, 2, False)),
        ({"tp": "4", "ep": "1", "notes": "adp=1 moe_tp=4"}, (4, 1, 1, False)),
    ],
)
def test_experts_over_more_gpus_than_attention_are_of_ranks(
    cells: dict[str, str], expected: tuple[int, int, int, bool]
) -> None:
    assert sizes(**MINIMAX, **cells) == expected


def test_inferencex_calls_tp_the_gpus_of_all_ranks() -> None:
    """--tensor-parallel-size 1 --data-parallel-size $TP --enable-expert-parallel."""
    cells = {
        "tp": "2", "ep": "4", "dp_replicas": "2", "n_gpus": "4", "max_concurrency": "16",
        "workload": "random (InferenceX)", "arrival_process": "closed loop",
        "notes": "gemm=fp8 moe=fp8 adp=2 moe_tp=1",
    }  # fmt: skip
    found = row(**MINIMAX, **cells)
    assert (found.tp, found.data_parallel_size, found.ep, found.n_gpus) == (1, 2, 2, 2)
    assert found.max_concurrency == 16
    assert sizes(**MINIMAX, **cells) == (1, 2, 1, True)
    plain = row(**MINIMAX, **cells | {"notes": "adp=1 moe_tp=1", "ep": "2", "dp_replicas": "1"})
    assert (plain.tp, plain.data_parallel_size) == (2, None)


def test_experts_that_are_cut_among_ranks_and_users_of_one_of_them() -> None:
    """235 GB do not fit one H200: GPUs, and users, are those of one rank of two."""
    cells = {"tp": "1", "n_gpus": "1", "max_concurrency": "8", "notes": "adp=None moe_tp=2"}
    found = row(**QWEN, **cells, arrival_process="closed loop")
    assert (found.n_gpus, found.max_concurrency) == (2, 16)
    assert sizes(**QWEN, **cells) == (1, 2, 1, False)
