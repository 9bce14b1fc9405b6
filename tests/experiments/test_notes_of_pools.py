"""Several pools in words: what their prices rest on, and what a point of them is called."""

from pathlib import Path

from test_pool_studies import plan_of

from experiments.reporting.words import calibration_notes
from experiments.study.document import Study, from_study
from experiments.study.grid import in_brief
from experiments.study.points import prepare


def test_what_holds_for_all_pools_names_none(tmp_path: Path) -> None:
    told = calibration_notes(plan_of(tmp_path))
    assert sum(text.startswith("vLLM") for text in told) == 1
    (of_fast,) = [text for text in told if "applied to t4" in text]
    assert of_fast.startswith("pool fast: calibration")


def test_a_point_that_says_nothing_of_pools_names_those_of_the_base(tmp_path: Path) -> None:
    sweep = (
        "sweep:\n- {cluster.pools: [{gpu: t4, replicas: 2, tensor_parallel_size: 2}]}\n"
        "- {engine.block_size: 32}\n"
    )
    plan = plan_of(tmp_path, sweep)
    again = prepare(from_study(Study.model_validate(plan.study.resolved())))
    for points in (plan.points, again.points):
        assert [point.values["cluster.pools"] for point in points] == [
            "2 x t4 (tensor_parallel_size=2)", "2 x t4 fast + 1 x v100-16gb-sxm slow",
        ]  # fmt: skip


def test_pools_of_gpus_of_ones_own_are_told_in_brief() -> None:
    own = {"name": "mine", "memory_gib": 48}
    pools = [
        {"gpu": own, "replicas": 1, "role": "serve", "engine": {"block_size": 16}},
        {"gpu": "l4", "replicas": 3, "role": "decode", "name": "", "calibration": None},
    ]
    assert in_brief(pools) == [{"gpu": own}, {"gpu": "l4", "replicas": 3, "role": "decode"}]
    assert in_brief([{"replicas": 1}]) == [{"replicas": 1}]  # no pools: as they are
