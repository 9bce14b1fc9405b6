"""Studies with routers that see caches: files, figures, messages, and the same bytes always."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.cli.run import main
from sim.recording.result import CLAIM_COLUMNS, SESSION_COLUMNS
from tests.experiments.study_files import write_study

STUDY = """
name: routed
description: Routers, some of which see caches.
model: llama-3-8b
cluster: {gpu: a100-80gb-sxm, replicas: 3, router: round_robin}
engine: {max_model_len: 4096, max_num_seqs: 32}
workload:
  arrivals: {process: closed_loop, users: 12, think_s: 1}
  sessions: {turns: {distribution: constant, value: 4}, system_tokens: 200}
  lengths:
    prompt: {distribution: lognormal, mean: 300, cv: 1.0, max: 1000}
    output: {distribution: lognormal, mean: 40, cv: 0.5, max: 100}
  num_requests: 240
sweep:
- {cluster.router: round_robin}
- cluster.router: llm_d
  cluster.router_settings: {scorers: {precise_prefix_cache: 3, queue: 1, active_request: 1}}
- {cluster.router: dynamo}
"""


def test_results_say_what_was_claimed_and_what_was_found(tmp_path: Path) -> None:
    study = write_study(tmp_path, STUDY)
    for jobs in ("1", "2"):
        assert (
            main([str(study), "--jobs", jobs, "--no-figures", "--out", str(tmp_path / jobs)]) == 0
        )
    one, two = tmp_path / "1", tmp_path / "2"
    for name in ("summary.csv", "runs.csv", "replicas.csv", "requests.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    summary = pd.read_csv(one / "summary.csv").set_index("cluster.router")
    replicas, requests = (
        pd.read_csv(one / "replicas.csv"), pd.read_parquet(one / "requests.parquet")
    )  # fmt: skip
    assert len(replicas) == 9
    for name in ("busy_share", "kv_use_mean"):  # alike replicas: the mean of them is the whole's
        means = replicas.groupby("cluster.router", sort=False)[name].mean()
        np.testing.assert_allclose(means, summary[name])
    most = replicas.groupby("cluster.router", sort=False)["kv_use_max"].max()
    np.testing.assert_allclose(most, summary["kv_use_max"])
    for name in ("mfu", "mbu"):
        parts = replicas.groupby("cluster.router", sort=False)[name]
        assert (parts.min() < summary[name]).all()
        assert (parts.max() > summary[name]).all()
    place = requests.columns.get_loc("measured")
    assert [*requests.columns[place - 4 : place]] == [*SESSION_COLUMNS, *CLAIM_COLUMNS]
    for point, router in enumerate(summary.index, start=1):
        rows = requests[(requests.point == point) & (requests.measured == 1)]
        own = replicas[replicas.point == point]
        figures = summary.loc[router]
        by_replica = rows.groupby("replica")
        rates = by_replica.cached_tokens.sum() / by_replica.prompt_tokens.sum()
        np.testing.assert_allclose(own.prefix_cache_hit_rate, rates)
        assert own.requests.tolist() == by_replica.size().tolist()
        assert figures.prefix_cache_hit_rate_min == pytest.approx(rates.min())
        assert figures.prefix_cache_hit_rate_max == pytest.approx(rates.max())
        assert figures.request_share_max == pytest.approx(by_replica.size().max() / len(rows))
        claims = rows.claimed_tokens.sum() / rows.prompt_tokens.sum()
        if router == "round_robin":
            assert (rows.claimed_tokens == -1).all()
            assert np.isnan(figures.claimed_hit_rate)
        else:
            assert figures.claimed_hit_rate == pytest.approx(claims)
            assert claims == pytest.approx(figures.prefix_cache_hit_rate, abs=0.02)
        ages = rows.metrics_age_s
        assert ages.isna().all() if router != "llm_d" else ages.between(0, 0.05).all()
    found = summary.prefix_cache_hit_rate
    assert found["llm_d"] > found["round_robin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "cluster.router_settings={scorers: {queu: 1}}",
            "cluster.router_settings.scorers.queu = 1: did you mean queue?",
        ),
        (
            "cluster.router_settings={scorer: {queue: 1}}",
            "cluster.router_settings: unknown key scorer of llm_d: did you mean scorers?",
        ),
        (
            "cluster.router_settings={refresh_metrics_interval_s: fast}",
            "cluster.router_settings.refresh_metrics_interval_s = fast: expected a number",
        ),
        (
            "cluster.router_settings={scorers: {no_hit_lru: 1}}",
            "cluster.router_settings.scorers.no_hit_lru = 1: expected one of queue, ",
        ),
        ("cluster.router=llmd", "cluster.router = llmd: did you mean llm_d?"),
    ],
)
def test_a_wrong_setting_is_said_with_its_key(
    change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, STUDY)
    sets = ["sweep={}", "cluster.router=llm_d"]
    sets = [each for each in sets if each.split("=")[0] != change.split("=")[0]] + [change]
    options = [word for each in sets for word in ("--set", each)] + ["--dry-run"]
    assert main([str(study), *options]) == 2
    assert message in capsys.readouterr().err


def test_every_rank_that_serves_requests_of_its_own_has_a_row(tmp_path: Path) -> None:
    text = """
name: ranks
model: opt-125m
cluster: {gpu: t4, replicas: 2, data_parallel_size: 3}
engine: {dtype: float16}
workload:
  arrivals: {process: poisson, rate_per_s: 40}
  lengths:
    prompt: {distribution: constant, value: 30}
    output: {distribution: constant, value: 5}
  num_requests: 60
seeds: 1
"""
    study = write_study(tmp_path, text)
    assert main([str(study), "--no-figures", "--out", str(tmp_path / "out")]) == 0
    replicas = pd.read_csv(tmp_path / "out" / "replicas.csv")
    assert replicas["replica"].tolist() == list(range(6))
    assert replicas["requests"].sum() == 54  # less the warm-up
