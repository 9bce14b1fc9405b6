"""Tables of pools and replicas follow the choice; what stands out does not flatten the rest."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Opened

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: pools
model: llama-3-8b
cluster:
  pools: [{name: fast, gpu: h100-sxm}, {name: slow, gpu: l40s, replicas: 2}]
workload:
  arrivals: {process: closed_loop, users: 20}
  lengths:
    prompt: {distribution: constant, value: 3000}
    output: {distribution: lognormal, mean: 150, cv: 1}
  num_requests: 400
slo: {ttft_s: 0.5, tpot_s: 0.03, attainment: 0.9}
seeds: 2
sweep:
  cluster.router: [round_robin, least_requests]
  workload.arrivals.users: [20, 60]
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pools")
    (folder / "pools.yaml").write_text(STUDY)
    subprocess.run(
        [sys.executable, "-m", "experiments.run", "pools.yaml", "--out", "out", "--no-figures"],
        cwd=folder, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return (folder / "out" / "report.html").as_uri()


def shown(page: Any, table: str) -> list[str]:
    rows = page.locator(f'[aria-label="{table}"] tbody tr').evaluate_all(
        "rows => rows.filter((row) => row.offsetHeight).map((row) => row.cells[0].innerText)"
    )
    return list(rows)


def test_pools_and_replicas_are_those_of_the_chosen_points(browser: Any, url: str) -> None:
    with Opened(browser, viewport={"width": 1280, "height": 900}) as opened:
        page = opened.page
        page.goto(f"{url}#points=4")
        name = "4: least_requests, users 60"
        assert shown(page, "Pools") == [name, "fast", "slow"]
        assert shown(page, "Replicas") == [name, "0 fast", "1 slow", "2 slow"]
        page.locator('tr[data-n="1"] input').check()
        assert shown(page, "Pools") == ["1: round_robin, users 20", "fast", "slow", name,
                                        "fast", "slow"]  # fmt: skip
        for table in ("Pools", "Replicas"):
            box = page.locator(f'[aria-label="{table}"]')
            assert box.evaluate("box => box.scrollWidth <= box.clientWidth"), table
        assert opened.complaints == []


def test_a_burst_at_the_start_does_not_flatten_the_arrivals(browser: Any, url: str) -> None:
    """All users come at once: the axis ends above what comes later, and the burst is told."""
    with Opened(browser) as opened:
        page = opened.page
        page.goto(f"{url}#points=4")
        said = page.locator("#time-rate .named").text_content()
        burst = float(said.removeprefix("above: up to ").removesuffix(" per second"))
        ticks = page.locator("#time-rate .tick[text-anchor=end]").all_text_contents()
        assert max(float(tick) for tick in ticks) < burst / 2


@pytest.mark.parametrize("width", [390, 768])
def test_no_name_of_a_row_is_cut(browser: Any, url: str, width: int) -> None:
    with Opened(browser, viewport={"width": width, "height": 900}) as opened:
        page = opened.page
        page.goto(f"{url}#points=4")
        names = page.locator("#parts .row-name").all_text_contents()
        assert " ".join(names) == "4: least_requests, users 60"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
