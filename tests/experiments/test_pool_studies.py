"""Studies with pools: what is refused and how, keys of pools, and what a run leaves behind."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from study_files import SMALL, refused, refused_study, run_cli, tables_of, write_study

from experiments import load_study
from experiments.cli.run import main
from experiments.running import capacity
from experiments.running.capacity import capacity_per_s
from experiments.running.pool_tables import calibrations_of
from experiments.study.build import by_pool, independent_replicas, is_random, scenario_of, settled
from experiments.study.document import Study, from_study, read_raw
from experiments.study.keys import dotted, key_path
from experiments.study.points import Plan, prepare
from experiments.study.requests import requests_of
from hardware.calibration import DATASHEET
from sim.measuring.metrics import summarise
from sim.recording.handovers import HANDOVER_COLUMNS
from sim.simulation import simulate

POOLS = """\
  pools:
  - {name: fast, gpu: t4, replicas: 2}
  - {name: slow, gpu: v100-16gb-sxm, engine: {max_num_seqs: 2}}
"""
TEXT = SMALL.replace("  gpu: t4\n", POOLS).replace("sweep:\n  engine.max_num_seqs: [1, 4]\n", "")


def plan_of(folder: Path, sweep: str = "", **settings: object) -> Plan:
    return prepare(from_study(load_study(write_study(folder, TEXT + sweep), settings)))


def test_a_key_names_a_place_in_a_list() -> None:
    for key, path in (
        ("engine.block_size", ("engine", "block_size")),
        ("cluster.pools[1].engine.order", ("cluster", "pools", 1, "engine", "order")),
        ("a[0][2]", ("a", 0, 2)),
    ):
        assert key_path(key) == path
        assert dotted(path) == key
    assert key_path("cluster.pools[x].gpu") == ("cluster", "pools[x]", "gpu")


def test_a_pool_has_its_own_settings_and_the_study_the_rest(tmp_path: Path) -> None:
    (point,) = plan_of(tmp_path).points
    (_, fast), (_, slow) = by_pool(point.study)
    assert (fast.engine.max_num_seqs, slow.engine.max_num_seqs) == (8, 2)
    assert fast.engine.dtype == slow.engine.dtype == "float16"
    assert (fast.cluster.gpu, fast.cluster.replicas) == ("t4", 2)
    assert settled(point.study) == point.study
    assert independent_replicas(point.study) == 3
    blind = point.study.model_copy(
        update={"cluster": point.study.cluster.model_copy(update={"router": "random"})}
    )
    assert is_random(blind)


def test_keys_of_pools_are_swept_and_set(tmp_path: Path) -> None:
    sweep = (
        "sweep:\n  cluster.pools[1].replicas: [1, 3]\n"
        "  cluster.pools[0].engine.max_num_seqs: [4, 6]\n"
    )
    plan = plan_of(tmp_path, sweep)
    found = [
        (each.study.cluster.all_pools[1].replicas, by_pool(each.study)[0][1].engine.max_num_seqs)
        for each in plan.points
    ]
    assert found == [(1, 4), (1, 6), (3, 4), (3, 6)]
    assert plan.points[3].values == {
        "cluster.pools[1].replicas": 3, "cluster.pools[0].engine.max_num_seqs": 6,
    }  # fmt: skip
    study = load_study(tmp_path / "small.yaml", {"cluster.pools[1].replicas": 5})
    assert study.cluster.all_replicas == 7
    assert list(study.sweep) == ["cluster.pools[0].engine.max_num_seqs"], "what is set is not swept"


FAULTS = {
    "unknown key": ("cluster.pools[1].replcas=2", ["pools[1].replcas = 2: unknown key; did you"]),
    "unknown setting": ("cluster.pools[1].max_num_seqs=2", ["pools[1].engine.max_num_seqs?"]),
    "unknown gpu": ("cluster.pools[0].gpu=l40x", ["cluster.pools[0].gpu = 'l40x'", "'l40'?"]),
    "both forms": ("cluster.replicas=2", ["cluster.replicas = 2: expected it in each pool"]),
    "no such pool": ("cluster.pools[2].replicas=2", ["cluster.pools[2] is not there", "list of 2"]),
    "no place": ("cluster.pools.replicas=2", ["is a list", "in it: cluster.pools[0]"]),
    "a place counted from the end": (
        "cluster.pools[-1].gpu=t4", ["unknown key; places are counted from 0: cluster.pools[0]"],
    ),
    "a swept place with a dot": (
        "sweep={cluster.pools.0.replicas: [1]}", ["is a list", "cluster.pools[0] instead of"],
    ),
    "two of a name": ("cluster.pools[1].name=fast", ["2 are named fast, expected each once"]),
    "role": ("cluster.pools[0].role=encode", ["pools[0].role = encode: is not modelled"]),
    "a role alone": (
        "cluster.pools[0].role=prefill", ["prefill without a pool with role: decode, expected"],
    ),
    "a role of ranks": (
        "cluster.pools=[{gpu: h100-sxm, role: prefill, data_parallel_size: 2}, "
        "{gpu: h100-sxm, role: decode}]",
        ["cluster.pools: data_parallel_size above 1 beside roles, expected 1"],
    ),
    "a network that nobody knows": (
        "cluster.pools=[{gpu: l40s, role: prefill}, {gpu: l40s, role: decode}]",
        ["cluster.kv_transfer.bandwidth_gb_s: the network of l40s is not known"],
    ),
    "a host beside a role": (
        "cluster.pools=[{gpu: h100-sxm, role: prefill, engine: {kv_offloading_size: 20}}, "
        "{gpu: h100-sxm, role: decode}]",
        ["engine.kv_offloading_size = 20.0 with role: prefill is not modelled, expected none"],
    ),
    "transfers without roles": (
        "cluster.kv_transfer.latency_s=0.1", ["cluster.kv_transfer", "expected pools with role"],
    ),
    "no threshold": (
        "cluster={pools: [{gpu: h100-sxm, role: prefill}, {gpu: h100-sxm, role: decode}], "
        "kv_transfer: {decider: prefix_based}}",
        ["cluster.kv_transfer.non_cached_tokens", "missing"],
    ),
    "a policy that is not modelled": (
        "cluster={pools: [{gpu: h100-sxm, role: prefill}, {gpu: h100-sxm, role: decode}], "
        "kv_transfer: {kv_load_failure_policy: recompute}}",
        ["kv_load_failure_policy = recompute", "expected one of fail"],
    ),
    "a threshold for all": (
        "cluster.kv_transfer={non_cached_tokens: 512}", ["non_cached_tokens", "prefix_based"],
    ),
    "does not fit": (
        "model=llama-3-70b", ["pool fast: llama-3-70b", "memory of the GPU", "smallest"],
    ),
    "settings that clash": (
        "cluster.pools[1].engine={scheduler: static, async_scheduling: true}",
        ["cluster.pools[1].engine", "async_scheduling"],
    ),
    "settings that clash with the study's": (
        "cluster.pools[1].engine={scheduler: static, enable_prefix_caching: true}",
        ["enable_prefix_caching"],
    ),
    "budget": (
        "cluster.pools[1].engine.max_num_batched_tokens=1",
        ["pool slow: engine.max_num_batched_tokens = 1 is smaller"],
    ),
    "swept to nowhere": (
        "sweep={'cluster.pools[7].replicas': [1, 2]}", ["cluster.pools[7] is not there"],
    ),
    "swept without effect": (
        "sweep={'cluster.pools[0].engine.batch_timeout_s': [0.1, 0.2]}", ["has no effect"],
    ),
    "api": (
        "cluster.pools[1].engine.api_request_s=0.5", ["pool slow: api_request_s", "in all pools"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("setting", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_pool_is_one_error_that_names_it(
    setting: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--dry-run", "--set", setting)
    message = refused_study(monkeypatch, capsys, tmp_path, *options, text=TEXT)
    for word in words:
        assert word in message, message


def test_a_fault_of_a_pool_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, TEXT.replace("max_num_seqs: 2}", "max_num_batched_tokens: 1}"))
    message = refused(capsys, tmp_path, path)
    assert f"{path}:7: pool slow: engine.max_num_batched_tokens = 1" in message


def test_a_run_leaves_a_row_for_each_pool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, TEXT + "sweep: {cluster.router: [round_robin, least_tokens]}\n")
    assert run_cli(path, "--out", tmp_path / "out", "--no-figures") == 0
    assert "pools (pools.csv has every metric of each)" in capsys.readouterr().out
    pools = pd.read_csv(tmp_path / "out" / "pools.csv")
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert pools["pool"].tolist() == ["fast", "slow"] * 2
    assert pools["gpu"].tolist() == ["t4", "v100-16gb-sxm"] * 2
    assert pools["replicas"].tolist() == [2, 1] * 2
    each = pools.groupby("point")
    assert each["request_share"].sum().tolist() == pytest.approx([1, 1])
    assert each["finished"].sum().tolist() == pytest.approx(summary["finished"].tolist())
    requests = pq.read_table(tmp_path / "out" / "requests.parquet").to_pandas()
    owner = {0: "fast", 1: "fast", 2: "slow"}
    assert requests["pool"].tolist() == [owner[number] for number in requests["replica"]]
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Pools</h2>" in report
    assert "2 x t4" in report
    # The study with every default gives the same tables again.
    again = tmp_path / "out" / "study.yaml"
    assert run_cli(again, "--out", tmp_path / "again", "--no-figures") == 0
    assert tables_of(tmp_path / "again") == tables_of(tmp_path / "out")
    assert (tmp_path / "again" / "pools.csv").read_bytes() == (
        tmp_path / "out" / "pools.csv"
    ).read_bytes()


def test_identical_pools_have_the_tables_of_one(tmp_path: Path) -> None:
    one = TEXT.replace(POOLS, "  gpu: t4\n  replicas: 3\n")
    two = TEXT.replace(POOLS, "  pools: [{gpu: t4, replicas: 2}, {gpu: t4}]\n")
    tables = []
    for name, text in (("one", one), ("two", two)):
        path = write_study(tmp_path, text, f"{name}.yaml")
        assert run_cli(path, "--out", tmp_path / name, "--no-figures") == 0
        files = (tmp_path / name / each for each in ("summary.csv", "runs.csv"))
        tables.append([file.read_bytes() for file in files])
    assert tables[0] == tables[1]


def test_each_pool_is_priced_for_its_own_gpu(tmp_path: Path) -> None:
    text = TEXT.replace("gpu: t4, replicas: 2", "gpu: h100-sxm").replace("v100-16gb-sxm", "l40s")
    text = text.replace("gpu: l40s", "gpu: l40s, calibration: none")
    api = "  api_request_s: 0\n  api_token_s: 0\n  api_output_s: 0\n  api_loop_output_s: 0\n"
    text = text.replace("  dtype: float16\n", f"  dtype: float16\n{api}")
    (point,) = prepare(read_raw(write_study(tmp_path, text))).points
    fast, slow = calibrations_of(point.study)
    assert fast.name.endswith(" on h100-sxm")
    assert slow == DATASHEET


def test_what_pools_can_serve_adds_up_where_the_router_looks(tmp_path: Path) -> None:
    def capacity(router: str, cluster: str) -> float:
        text = TEXT.replace(POOLS, f"  router: {router}\n{cluster}")
        (point,) = prepare(read_raw(write_study(tmp_path, text))).points
        return capacity_per_s(point.study)

    one = capacity("least_tokens", "  gpu: t4\n")
    slow = capacity("least_tokens", "  pools: [{gpu: t4, engine: {max_num_seqs: 2}}]\n")
    both = "  pools: [{gpu: t4}, {gpu: t4, engine: {max_num_seqs: 2}}]\n"
    assert slow < one
    assert capacity("least_tokens", both) == pytest.approx(one + slow, rel=1e-12)
    assert capacity("round_robin", both) == pytest.approx(2 * slow, rel=1e-12)
    alike = "  pools: [{gpu: t4}, {gpu: t4, replicas: 2}]\n"
    assert capacity("random", alike) == capacity("random", "  gpu: t4\n  replicas: 3\n")


@pytest.mark.filterwarnings("error::UserWarning")
def test_roles_in_a_sweep_with_plain_replicas(tmp_path: Path) -> None:
    """Points with and without roles in one study: what they have apart is there for both."""
    study = {
        "name": "roles", "model": "opt-125m", "cluster": {"pools": [{"gpu": "t4"}]},
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 40},
            "lengths": {"prompt": {"distribution": "uniform", "min": 10, "max": 600},
                        "output": {"distribution": "uniform", "min": 2, "max": 30}},
            "num_requests": 60,
        },
        "sweep": {"cluster.pools": [
            [{"name": "serve", "gpu": "a100-80gb-sxm", "replicas": 2}],
            [{"name": "p", "gpu": "a100-80gb-sxm", "role": "prefill"},
             {"name": "d", "gpu": "a100-80gb-sxm", "role": "decode",
              "engine": {"max_num_seqs": 64, "enable_prefix_caching": False}}],
        ]},
    }  # fmt: skip
    path = tmp_path / "roles.yaml"
    path.write_text(json.dumps(study), encoding="utf-8")
    assert main([str(path), "--jobs", "1", "--out", str(tmp_path / "out")]) == 0
    told = pd.read_csv(tmp_path / "out" / "summary.csv")["cluster.pools"].tolist()
    assert told == [
        "2 x a100-80gb-sxm serve",
        "1 x a100-80gb-sxm p (role=prefill) + 1 x a100-80gb-sxm d (role=decode, "
        "engine.max_num_seqs=64, engine.enable_prefix_caching=false)",
    ]
    requests = pd.read_parquet(tmp_path / "out" / "requests.parquet")
    own = list(HANDOVER_COLUMNS)
    names = list(requests.columns)
    assert names[names.index("measured") - len(own) : names.index("measured")] == own
    plain, apart = (requests[requests["point"] == point] for point in (1, 2))
    assert (plain["prefill_replica"] == -1).all()
    assert plain["loaded_s"].isna().all()
    assert (apart["prefill_replica"] == 0).all()
    assert set(apart["pool"]) == {"d"}
    assert (apart["first_token_s"] > apart["loaded_s"]).all()
    parts = pd.read_csv(tmp_path / "out" / "decomposition.csv")
    assert set(parts[parts["part"] == "transfer"]["point"]) == {2}
    pools = pd.read_csv(tmp_path / "out" / "pools.csv")
    handed = pools.groupby("pool", sort=False)["transfer_bytes_per_s"].first()
    assert handed["p"] == handed["d"] > 0
    assert np.isnan(handed["serve"])


def test_disaggregation_buys_tpot_with_ttft() -> None:
    """Signs of a published pair: gpt-oss-120b, 16 H200, 45/s of 5,000 and 250 tokens (llm-d)."""
    pools = [
        [{"name": "serve", "gpu": "h200", "replicas": 16}],
        [{"name": "prefill", "role": "prefill", "gpu": "h200", "replicas": 8},
         {"name": "decode", "role": "decode", "gpu": "h200", "tensor_parallel_size": 4,
          "replicas": 2}],
    ]  # fmt: skip
    found = []
    for each in pools:
        study = Study.model_validate(
            {
                "name": "pair", "model": "gpt-oss-120b",
                "cluster": {"pools": each, "router": "round_robin"},
                "engine": {"max_model_len": 8192, "disable_hybrid_kv_cache_manager": True},
                "workload": {
                    "arrivals": {"process": "poisson", "rate_per_s": 45},
                    "lengths": {name: {"distribution": "constant", "value": value}
                                for name, value in (("prompt", 5000), ("output", 250))},
                    "num_requests": 500,
                },
            }
        )  # fmt: skip
        scenario = scenario_of(study, 0)
        found.append(summarise(simulate(scenario, requests_of(study, 0)), scenario))
    plain, apart = found
    assert 1.2 < apart["ttft_mean_s"] / plain["ttft_mean_s"] < 3  # published: 2.2
    assert 0.1 < apart["tpot_mean_s"] / plain["tpot_mean_s"] < 0.6  # 0.23
    assert 0.3 < apart["e2e_mean_s"] / plain["e2e_mean_s"] < 0.7  # 0.41


def test_capacity_of_roles_is_that_of_the_scarcer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that prefills for three, and three for one: each is what its side can do at most."""
    monkeypatch.setattr(capacity, "REQUESTS", 1500)
    found = {}
    for prefill, decode in ((1, 3), (2, 6), (3, 1)):
        pools = [
            {"name": "p", "role": "prefill", "gpu": "h100-sxm", "replicas": prefill},
            {"name": "d", "role": "decode", "gpu": "h100-sxm", "replicas": decode},
        ]
        study = Study.model_validate(
            {
                "name": "roles", "model": "llama-3.1-8b",
                "cluster": {"pools": pools, "router": "least_requests"},
                "engine": {"max_model_len": 8192, "max_num_seqs": 32},
                "workload": {
                    "arrivals": {"process": "poisson", "rate_per_s": 1},
                    "lengths": {name: {"distribution": "constant", "value": value}
                                for name, value in (("prompt", 4000), ("output", 300))},
                    "num_requests": 50,
                },
            }
        )  # fmt: skip
        found[prefill, decode] = capacity_per_s(study)
        scenario = scenario_of(study, 0)
    prompt_s = scenario.pools[0].price.step_s(0, [0], [(4000, 0)])
    assert found[1, 3] == pytest.approx(1 / prompt_s, rel=0.03)
    assert found[2, 6] == pytest.approx(2 * found[1, 3], rel=0.02)
    assert found[3, 1] < 0.9 * 3 / prompt_s
