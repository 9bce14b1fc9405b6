"""Plans of pools: other GPUs behind one router, and prompts computed for others."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from test_plan import PRICES, SMALL, loaded, rows, run, study

from experiments.cli.run import main as run_main
from experiments.planning.plan.reading import read_plan
from experiments.running import capacity
from experiments.study.document import read_raw
from experiments.study.errors import StudyError

CANDIDATES = "candidates: {cluster.gpu: [t4, l40s], engine.max_num_seqs: [4, 16, 64]}\n"
SHORT = (
    "--set", "run_requests=500", "--set", "workload.arrivals.rate_per_s=150",
    # Runs are as long as it takes to fill all seats twenty times.
    "--set", "engine.max_num_seqs=16",
)  # fmt: skip
MIXED = """\
candidates:
  cluster.pools:
  - [{name: fast, gpu: l40s}, {name: slow, gpu: t4, replicas: 2}]
"""
ROLES = """\
candidates:
- cluster.pools:
  - {name: prompts, gpu: h100-sxm, role: prefill}
  - {name: answers, gpu: h100-sxm, role: decode, replicas: 2}
"""


@pytest.fixture(autouse=True)
def _roughly_what_an_overload_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that tell where to begin: what is found does not rest on their third digit."""
    monkeypatch.setattr(capacity, "REQUESTS", 1_000)


def planned(folder: Path, candidates: str, *words: str) -> Path:
    text = SMALL.replace(CANDIDATES, candidates)
    if "h100-sxm" in candidates:
        text = text.replace(PRICES, "prices: {h100-sxm: 4}")
    out = folder / "out"
    assert run(study(folder, text), "--out", out, "--set", "also=[]", *SHORT, *words) == 0
    return out


def documents(path: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(path.read_text(encoding="utf-8")))


def gives_the_plan_s_figures(out: Path, folder: Path) -> None:
    alone = folder / "winner"
    words = [str(out / "winner.yaml"), "--out", str(alone), "--no-figures", "--jobs", "1"]
    assert run_main(words) == 0
    answer, runs = rows(out / "plan.csv")[0], rows(alone / "runs.csv")
    kept = sum(float(row["slo_attainment"]) for row in runs) / len(runs)
    assert 1 - kept == pytest.approx(float(answer["missed_share"]), abs=1e-12)
    assert {float(row["usd_per_hour"]) for row in runs} == {float(answer["usd_per_hour"])}
    assert {float(row["gpus"]) for row in runs} == {float(answer["gpus"])}


def test_pools_of_other_gpus_are_candidates(tmp_path: Path) -> None:
    """The smallest size has one of each pool, though they are to be one and two."""
    out = planned(tmp_path, MIXED)
    (answer,) = rows(out / "plan.csv")
    fast, slow = (pool["replicas"] for pool in loaded(out / "winner.yaml")["cluster"]["pools"])
    assert answer["deployment"] == f"{fast} x l40s TP1 fast + {slow} x t4 TP1 slow"
    assert float(answer["usd_per_hour"]) == pytest.approx(1.9 * fast + 0.5 * slow)
    assert answer["verdict"] == "kept"
    gives_the_plan_s_figures(out, tmp_path)
    script = (out / "serve.sh").read_text(encoding="utf-8")
    assert f"fast)  # {fast} of them" in script
    assert f"slow)  # {slow} of them" in script
    first, second, service = documents(out / "kubernetes.yaml")
    assert [each["spec"]["replicas"] for each in (first, second)] == [fast, slow]
    labels = first["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_pools_with_roles_are_sized_together(tmp_path: Path) -> None:
    out = planned(tmp_path, ROLES)
    answer = rows(out / "plan.csv")[0]
    winner = loaded(out / "winner.yaml")
    parts = [pool["replicas"] for pool in winner["cluster"]["pools"]]
    assert sum(parts) == int(answer["replicas"])
    assert answer["deployment"].startswith(f"{parts[0]} x h100-sxm TP1 prompts + ")
    gives_the_plan_s_figures(out, tmp_path)
    script = (out / "serve.sh").read_text(encoding="utf-8")
    assert script.count('"kv_connector": "NixlConnector"') == 2
    prompts, _, answers, _ = documents(out / "kubernetes.yaml")
    assert prompts["spec"]["selector"] != answers["spec"]["selector"]
    (container,) = answers["spec"]["template"]["spec"]["containers"]
    assert container["env"][0]["name"] == "VLLM_NIXL_SIDE_CHANNEL_HOST"


def test_the_price_of_every_pool_is_known(tmp_path: Path) -> None:
    text = SMALL.replace(CANDIDATES, MIXED).replace("l40s: {on_demand: 1.9, ", "l40s: {")
    text = "".join(line for line in text.splitlines(True) if not line.startswith("also:"))
    with pytest.raises(StudyError, match=r"prices\.l40s has reserved, expected on_demand"):
        read_plan(read_raw(study(tmp_path, text)))
