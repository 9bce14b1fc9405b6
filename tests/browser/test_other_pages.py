"""Pages of plans, capacities, comparisons and tables as a person meets them."""

import csv
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import READ, Opened
from experiments.cli.headroom import main

TRAFFIC = """
model: opt-125m
engine: {dtype: float16}
workload:
  arrivals: ARRIVALS
  lengths:
    prompt: {distribution: uniform, min: 10, max: 60}
    output: {distribution: uniform, min: 2, max: 30}
"""
STEADY = "{process: poisson, rate_per_s: 600}"
PLAN = """
kind: plan
name: bought
description: A <b>plan</b> of </script> a small model.
slo: {ttft_s: 0.1, tpot_s: 0.02, attainment: 0.95}
candidates: {cluster.gpu: [t4, l40s], engine.max_num_seqs: [4, 64]}
run_requests: 1000
runners_up: 1
"""
DAY = """
kind: plan
name: day
slo: {ttft_s: 0.1, tpot_s: 0.02, attainment: 0.95, window_s: 5}
candidates: {cluster.gpu: [t4]}
risk: {share: 0.1}
runners_up: 0
"""
CAPACITY = """
kind: capacity
name: held
cluster: {gpu: t4}
slo: {ttft_s: 0.1, attainment: 0.95}
run_requests: 1000
half_width: 0.2
sweep: {engine.max_num_seqs: [8, 16]}
"""
COMPARED = """
name: compared
cluster: {gpu: t4}
slo: {ttft_s: 0.1, tpot_s: 0.02, attainment: 0.95}
seeds: 3
sweep: {engine.max_num_seqs: [4, 64]}
"""


def call(folder: Path, *words: str) -> None:
    with chdir(folder):
        assert main(words) == 0


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    steps = [(30, 100), (30, 400)]
    told = ", ".join(f"{{duration_s: {long}, rate_per_s: {rate}}}" for long, rate in steps)
    day = f"{{process: piecewise, steps: [{told}]}}"
    for name, text, arrivals in (
        ("plan", PLAN, STEADY), ("day", DAY, day), ("capacity", CAPACITY, STEADY),
    ):  # fmt: skip
        whole = text + TRAFFIC.replace("ARRIVALS", arrivals)
        whole += "  duration_s: 60\n" if name == "day" else ""
        (folder / f"{name}.yaml").write_text(whole)
        call(folder, "run", f"{name}.yaml", "--out", name, "--no-figures", "--jobs", "1")
    traffic = TRAFFIC.replace("ARRIVALS", STEADY) + "  num_requests: 2000\n"
    (folder / "compared.yaml").write_text(COMPARED + traffic)
    call(folder, "run", "compared.yaml", "--out", "out", "--no-figures", "--jobs", "1")
    call(folder, "compare", "out:1", "out:2", "--report", "compared.html")
    call(folder, "gallery", "gallery", "roofline_basics")
    found = {name: folder / name / "report.html" for name in ("plan", "day", "capacity")}
    return found | {
        "compare": folder / "compared.html", "gallery": folder / "gallery" / "index.html",
        "table": folder / "gallery" / "roofline_basics" / "report.html",
    }  # fmt: skip


KINDS = ("plan", "day", "capacity", "compare", "table", "gallery")


@pytest.mark.parametrize("kind", KINDS)
def test_they_fit_everywhere_and_are_open_to_a_screen_reader(
    browser: Any, axe: str, pages: dict[str, Path], kind: str
) -> None:
    url = pages[kind].as_uri()
    with Opened(browser, bypass_csp=True) as opened:
        page = opened.page
        for look in opened.looks(url):
            assert page.evaluate("document.documentElement.scrollWidth") <= look[1], look
            sizes = page.evaluate(
                "[...document.querySelectorAll('svg text')].map((text) =>"
                " parseFloat(getComputedStyle(text).fontSize))"
            )
            assert all(size >= 11 for size in sizes), look
            outside = page.evaluate(
                "[...document.querySelectorAll('svg text')].filter((text) => {"
                " const a = text.getBoundingClientRect();"
                " const b = text.ownerSVGElement.getBoundingClientRect();"
                " return a.left < b.left - 1 || a.right > b.right + 1;"
                "}).map((text) => text.textContent)"
            )
            assert outside == [], look
            assert opened.asked == [url]
            assert opened.complaints == [], look
            if look in READ:
                assert opened.violations(axe) == [], look


@pytest.mark.parametrize("kind", KINDS)
def test_they_run_under_their_own_policy(browser: Any, pages: dict[str, Path], kind: str) -> None:
    with Opened(browser) as opened:
        opened.page.goto(pages[kind].as_uri())
        assert opened.complaints == []
        if kind != "gallery":
            assert opened.page.locator(".chart svg").count() > 0
        assert len(opened.page.pdf(format="A4", landscape=True)) > 10_000


def test_a_plan_says_what_to_buy_and_why_not_the_others(
    browser: Any, pages: dict[str, Path]
) -> None:
    with (pages["plan"].parent / "candidates.csv").open() as file:
        candidates = list(csv.DictReader(file))
    answer = next(row for row in candidates if row["fate"] == "answer")
    with Opened(browser) as opened:
        page = opened.page
        page.goto(pages["plan"].as_uri())
        verdict = page.locator(".verdict").inner_text()
        assert answer["name"] in verdict
        assert f"{float(answer['usd_per_hour']):,.2f} USD/h" in verdict
        assert page.locator("#figure-0 .row-name").count() == len(candidates)
        assert page.locator("#figure-0 .row-name.strong").text_content() == answer["name"]
        table = page.get_by_role("region", name="Every candidate, and why it lost")
        assert table.locator("tbody tr").count() == len(candidates)
        for row in candidates:
            assert row["why"] in table.inner_text()
        orders = []
        for _ in range(2):
            table.get_by_role("button", name="candidate").click()
            orders.append(table.locator("tbody tr").all_inner_texts())
        assert orders[1] == orders[0][::-1] != orders[0]
        page.locator("#figure-0 svg").focus()
        page.keyboard.press("ArrowDown")
        assert "USD/h" in page.locator("#figure-0 [aria-live]").inner_text()


def test_a_day_shows_its_windows(browser: Any, pages: dict[str, Path]) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(pages["day"].as_uri())
        heading = page.get_by_role("heading", name="Windows of the day")
        assert heading.count() == 1
        assert page.locator(".cell.kept").count() > 0
        assert "windows miss the SLO" in page.locator(".verdict").inner_text()


def test_a_capacity_shows_its_interval_and_what_binds(browser: Any, pages: dict[str, Path]) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(pages["capacity"].as_uri())
        assert "max_num_seqs 16: highest rate_per_s" in page.locator(".verdict").inner_text()
        assert page.locator("rect.span").count() == 2
        table = page.locator("table.sortable").inner_text()
        assert "TTFT <= 100 ms" in table


def test_a_comparison_says_what_got_better_beyond_noise(
    browser: Any, pages: dict[str, Path]
) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(pages["compare"].as_uri())
        verdict = page.locator(".verdict").inner_text()
        assert "got better" in verdict
        assert "beyond noise" in verdict
        assert page.locator("#figure-0 .bar-of.good").count() > 0


def test_the_gallery_leads_to_reports(browser: Any, pages: dict[str, Path]) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(pages["gallery"].as_uri())
        page.set_viewport_size({"width": 390, "height": 844})
        sideways = page.evaluate(
            "[...document.querySelectorAll('.wide')].map((box) =>"
            " box.scrollWidth - box.clientWidth)"
        )
        assert sideways == [0] * len(sideways)
        page.get_by_role("link", name="roofline_basics").click()
        assert page.locator("h1").inner_text() == "roofline_basics"
        assert page.url == pages["table"].as_uri()
