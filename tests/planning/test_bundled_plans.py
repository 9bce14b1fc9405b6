"""Each bundled plan, smaller: its winner's own study, run alone, gives the plan's figures."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.planning.plan import finding
from experiments.planning.plan.demand import Demand
from experiments.planning.plan.finding import Finder, PlanFound
from experiments.planning.plan.problem import Problem
from experiments.planning.plan.reading import read_plan
from experiments.planning.plan.serving_files import winner_study, write_winner
from experiments.planning.plan.words import title
from experiments.planning.progress import SearchProgress
from experiments.planning.trials import Trials
from experiments.running import capacity
from experiments.running.api import load_study, run_study
from experiments.running.local import Local
from experiments.running.workers import shared_by
from experiments.study.bundled import bundled_studies
from experiments.study.document import read_raw
from experiments.study.overrides import override
from experiments.study.pools import by_pool

ROOT = Path(__file__).resolve().parents[2]
FEW = {"run_requests": 500, "runners_up": 0}
SMALLER: dict[str, dict[str, Any]] = {
    "chat_users": {
        "workload.arrivals.users": 20,
        "candidates": {"cluster.gpu": ["l40s", "h100-sxm"], "engine.max_num_seqs": [64]},
    },
    "qwen3_32b_h200": {
        "workload.arrivals.rate_per_s": 2,
        "workload.lengths.output.value": 100,
        "candidates": {"cluster.tensor_parallel_size": [1, 2]},
    },
    "split_pools": {"workload.arrivals.rate_per_s": 6, "ratios": 2},
    "uneven_day": {
        "workload.duration_s": 1200,
        "slo.window_s": 60,
        "risk.share": 0.3,
        "candidates": {"cluster.gpu": ["l40s", "h100-sxm"], "engine.max_num_seqs": [64]},
    },
}


def test_every_bundled_plan_is_here() -> None:
    plans = {name for name, path in bundled_studies().items()
             if "\nkind: plan\n" in path.read_text(encoding="utf-8")}  # fmt: skip
    assert plans == set(SMALLER)


@pytest.mark.parametrize("name", SMALLER)
def test_the_winner_alone_gives_the_figures_of_the_plan(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "REQUESTS", 1_000)  # bounds need no third digit
    monkeypatch.setattr(finding, "HALF_WIDTH", 0.5)  # nobody looks at how much more is held
    smaller = [override(key, value, key) for key, value in {**FEW, **SMALLER[name]}.items()]
    plan = read_plan(read_raw(bundled_studies()[name], smaller))
    trials = Trials(tmp_path, Local(1), SearchProgress())
    found = Finder(plan, trials, shared_by(1), SearchProgress(), look_around=False).run()
    winner = found.winner
    assert winner is not None
    path = tmp_path / "winner.yaml"
    bought = winner_study(name, winner)
    write_winner(bought, winner.candidate.values, path)
    each = [[alone.resolved() for _, alone in by_pool(one)] for one in (load_study(path), bought)]
    assert each[0] == each[1]
    text = path.read_text(encoding="utf-8")
    assert ": null" not in text
    assert "{}" not in text
    runs = run_study(path).runs
    assert runs["usd_per_hour"].tolist() == pytest.approx([winner.usd_per_hour] * len(runs))
    assert set(runs["gpus"]) == {winner.gpus}
    if found.problem.has_windows:
        kept = [
            math.floor(row.slo_windows_kept * row.slo_windows + 0.5) for row in runs.itertuples()
        ]
        missed = 1 - sum(kept) / runs["slo_windows"].sum()
    else:
        missed = 1 - runs["slo_attainment"].mean()
    assert missed == pytest.approx(winner.probe.missed, abs=1e-12)


def test_the_transcript_of_the_docs_asks_what_the_bundled_plan_asks() -> None:
    """Its heading is that of the study as it is now; its lines are those that a plan prints."""
    plan = read_plan(read_raw(bundled_studies()["chat_users"]))
    study = plan.study
    demand = Demand(study.growth, study.growth_cv, study.risk.share)
    asked = title(PlanFound([], {}, Problem(plan, demand.design), demand))
    page = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    told = page.split("```\n" + asked + "\n", 1)[1].split("```", 1)[0].splitlines()
    kinds = {line[:8].rstrip() for line in told[:-1]}
    assert kinds == {"answer", "holds", "binds", "one down", "next", "others", "if wrong"}
    (fates,) = [line for line in told if line.startswith("others")]
    others = sum(int(number) for number in re.findall(r"(?:^others +|, )(\d+) ", fates))
    nexts = sum(line.startswith("next") for line in told)
    assert 1 + nexts + others == len(plan.studies), "every candidate has its place"
