"""What a server would not do as a study says it, in words."""

import re

import pytest

from experiments.reporting.words import calibration_notes
from experiments.study.document import read_raw
from experiments.study.points import prepare


def notes(**cluster: object) -> str:
    block_size = cluster.pop("block_size", 16)
    study = {
        "model": cluster.pop("model", "llama-3-8b"),
        "cluster": {"gpu": "h100"} | cluster,
        "engine": {"block_size": block_size},
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 1.0},
            "lengths": {"prompt": 100, "output": 10},
            "num_requests": 10,
        },
    }
    return " ".join(calibration_notes(prepare(read_raw(study))))


@pytest.mark.parametrize(
    ("size", "told"), [(7, True), (8, True), (24, True), (16, False), (544, False)]
)
def test_blocks_that_no_server_has_are_told(size: int, told: bool) -> None:
    assert (
        f"engine.block_size = {size} is simulated as it is, but" in notes(block_size=size)
    ) == told


def test_blocks_of_latent_entries_are_larger_than_a_study_says() -> None:
    assert "engine.block_size" not in notes(model="deepseek-v2-lite", block_size=8)


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        (
            {"gpu": "HGX H100", "tensor_parallel_size": 4},
            "which such a server has 8: 4 GPUs are sim",
        ),
        ({"gpu": "dgx-h100"}, "gpu dgx-h100 means one h100-sxm, of .* has 8: 1 GPU is simulated"),
        ({"gpu": "GB200 NVL72", "replicas": 4}, "has 72: 4 GPUs are simulated"),
        ({"gpu": "HGX H100", "tensor_parallel_size": 4, "replicas": 2}, None),
        ({"gpu": "h100-nvl"}, None),
    ],
)
def test_one_gpu_of_a_server_that_is_named_is_told(
    cluster: dict[str, object], told: str | None
) -> None:
    found = notes(**cluster)
    assert re.search(told, found) if told else "such a server has" not in found
