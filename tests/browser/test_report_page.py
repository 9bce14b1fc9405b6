"""The report as a person meets it: widths, themes, keyboard, touch, print, linked choices."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import READ, Opened
from experiments.reporting.page.base import data_of
from experiments.reporting.quantities import MISSING
from tests.page_study import page_study

ROOT = Path(__file__).resolve().parents[2]
STUDY = page_study(
    "{engine.max_num_seqs: [8, 64], workload.arrivals.rate_per_s: [1, 8, 64]}",
    requests=400,
    description="A <b>study</b> of </script> six points.",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "small.yaml").write_text(STUDY)
    for out, jobs, seed in (("out", "1", "0"), ("again", "2", "1")):
        subprocess.run(
            [sys.executable, "-m", "experiments.run", "small.yaml", "--out", out, "--no-figures",
             "--jobs", jobs],
            cwd=folder, check=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        )  # fmt: skip
    return folder / "out"


@pytest.fixture(scope="module")
def url(results: Path) -> str:
    return (results / "report.html").as_uri()


def test_the_page_has_the_same_bytes_for_any_number_of_workers(results: Path) -> None:
    again = results.parent / "again" / "report.html"
    assert (results / "report.html").read_bytes() == again.read_bytes()


def test_it_fits_and_asks_for_nothing(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        for scheme, width in opened.looks(url):
            assert page.locator("#points tr[data-n]").count() == 6
            assert page.evaluate("document.documentElement.scrollWidth") <= width, scheme
            sizes = page.evaluate(
                "[...document.querySelectorAll('svg text')].map((text) =>"
                " parseFloat(getComputedStyle(text).fontSize))"
            )
            assert min(sizes) >= 11, (scheme, width)
            assert opened.asked == [url]
            assert opened.complaints == [], (scheme, width)
            the_table_fits(page, width)


def the_table_fits(page: Any, width: int) -> None:
    """On a phone a name stands above its figures, and these beside their box."""
    names = page.locator("#points .named-row").evaluate_all(
        "rows => rows.filter((row) => row.offsetHeight).map((row) => row.innerText)"
    )
    if width == 390:
        assert len(names) == 6
        assert "max_num_seqs 64, rate_per_s 8" in names
        price = page.locator('#points tr[data-n="5"] td').nth(4).bounding_box()
        assert price["x"] + price["width"] <= 390
        assert page.locator('#points tr[data-n="5"]').bounding_box()["height"] < 50
    else:
        assert names == []
    if width == 1280:
        price = page.get_by_role("button", name="USD/M output tokens").bounding_box()
        assert price["x"] + price["width"] <= 1280


COVERED = """
[...document.querySelectorAll('svg')].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll('.tag')].map((tag) => tag.getBoundingClientRect());
  return boxes.flatMap((a, place) => boxes.slice(place + 1).filter((b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3));
}).length
"""
"""How many numbers of lines are written over others."""


SAME = """
charts.lines(document.getElementById('time-rate'), { id: 'time-rate', label: 'same', height: 240,
  plain: true, series: Array.from({ length: 12 }, (_, at) => ({ name: `line ${at}`,
    look: { colour: at, shape: 'circle', dash: at }, tag: String(100 + at),
    points: Array.from({ length: 40 }, (_, x) => ({ x, y: 50 + 4 * Math.sin(x), text: '' })) })),
  x: { domain: [0, 39], log: false, text: String, title: 'x' },
  y: { domain: [0, 100], log: false, text: String, title: 'y' } })
"""
"""A dozen lines, one over the other."""


def test_no_line_s_number_covers_another_s(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        for _, width in opened.looks(f"{url}#points=1,2,3,4,5,6"):
            assert opened.page.locator("#time-rate .tag").count() == 6, width
            assert opened.page.evaluate(COVERED) == 0, width
            opened.page.evaluate(SAME)
            assert opened.page.locator("#time-rate .tag").count() == 12, width
            assert opened.page.evaluate(COVERED) == 0, width


def test_nothing_is_closed_to_a_screen_reader(browser: Any, axe: str, url: str) -> None:
    with Opened(browser, bypass_csp=True) as opened:
        for look in opened.looks(url):
            if look in READ:
                assert opened.violations(axe) == [], look


def test_figures_are_those_of_the_summary(browser: Any, results: Path, url: str) -> None:
    """Every figure of every column and point, but latencies of the saturated."""
    with (results / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = data_of((results / "report.html").read_text(encoding="utf-8"))["columns"]
    compared = 0
    with Opened(browser) as opened:
        opened.page.goto(f"{url}#view=all")
        shown = opened.page.evaluate(
            "[...document.querySelectorAll('#points tr[data-n]')].map((row) =>"
            " [Number(row.dataset.n), ...[...row.cells].slice(1).map((cell) => cell.textContent)])"
        )
        for number, *cells in shown:
            for column, cell in zip(columns, cells, strict=True):
                if "m" not in column or cell == MISSING:
                    continue
                figure = float(cell.removeprefix("~").split()[0].replace(",", ""))
                wanted = column.get("scale", 1) * float(rows[number - 1][column["id"]])
                near_all = column["id"].endswith(("_attainment", "_kept"))
                digits = 3 if " " in cell and not near_all else 4  # with an interval: fewer
                assert figure == float(f"{wanted:.{digits}g}"), (number, column["id"])
                compared += 1
    assert compared > 6 * 30


def test_the_table_sorts_filters_and_switches_views(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(url)
        page.locator("#points thead").get_by_role("button", name="rate_per_s").click()
        rates = page.locator("#points tr[data-n] td:nth-child(3)")
        assert rates.all_inner_texts() == ["1", "1", "8", "8", "64", "64"]
        page.locator("#points thead").get_by_role("button", name="rate_per_s").click()
        assert rates.all_inner_texts()[0] == "64"
        page.locator("#filter").fill("max_num_seqs=8 rate_per_s>=8")
        assert page.locator("#points tr[data-n]").count() == 2
        assert page.locator("#count").inner_text() == "2 of 6 points"
        page.locator("#views").get_by_role("button", name="Latency").click()
        assert page.get_by_role("button", name="ITL p99, ms").count() == 1
        assert "filter=max_num_seqs" in page.url


def test_a_choice_is_seen_in_every_chart_and_kept_in_the_address(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(f"{url}#points=2")
        assert page.locator("#cdf-ttft path.line").count() == 1
        page.locator('tr[data-n="5"] input').check()
        for chart in ("#cdf-ttft", "#cdf-tpot", "#cdf-e2e", "#time-rate"):
            assert page.locator(f"{chart} path.line").count() == 2
        for chart in ("#parts", "#time-bound"):
            assert page.locator(f"{chart} .row-name").count() == 2
        page.goto(page.url)
        page.reload()
        assert page.locator('tr[data-n="5"] input').is_checked()


def test_what_is_looked_at_is_kept_in_the_address(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(url)
        page.locator("#spans").get_by_role("button", name="E2E").click()
        page.locator("#percents").get_by_role("button", name="p50").click()
        page.locator("#metrics").select_option("tpot_p99_s")
        assert "E2E, ms: requests around p50" in page.locator("#parts").inner_text()
        page.reload()
        assert "E2E, ms: requests around p50" in page.locator("#parts").inner_text()
        assert page.locator("#metrics").input_value() == "tpot_p99_s"


def test_differences_are_those_of_the_table(browser: Any, results: Path, url: str) -> None:
    """Each bar says what the file says, and whether it is better beyond noise."""
    with (results / "differences.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "tpot_p99_s"]
    known = [row for row in rows if row["difference_lo"]]
    assert known
    with Opened(browser) as opened:
        page = opened.page
        page.goto(f"{url}#differences=tpot_p99_s")
        assert page.locator("#differences .row-name").count() == len(known)
        page.locator("#differences svg").focus()
        for row in known:
            page.keyboard.press("ArrowDown")
            said = page.locator("#differences [aria-live]").inner_text()
            shown = re.search(r"TPOT p99, ms: \+?(\S+) \(", said)
            assert shown is not None
            assert float(shown[1]) == float(f"{1e3 * float(row['difference']):.3g}")
            word = "better" if float(row["difference"]) < 0 else "worse"
            assert (word in said) == (row["starred"] == "1")


def test_one_zoom_for_all_times_and_a_way_back(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(url)
        chart = page.locator("#time-rate svg")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        ticks = page.locator("#time-ttft .tick").all_inner_texts()
        page.mouse.move(box["x"] + 200, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 400, box["y"] + 60, steps=4)
        page.mouse.up()
        assert page.locator("#time-ttft .tick").all_inner_texts() != ticks
        page.locator("#time-rate svg").focus()
        assert page.locator("#time-bound .tick").all_inner_texts() != ticks
        page.keyboard.press("Escape")
        assert page.locator("#time-ttft .tick").all_inner_texts() == ticks


def test_keys_alone_read_and_choose(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(f"{url}#points=1")
        page.locator("#pareto svg").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        said = page.locator("#pareto [aria-live]").inner_text()
        assert "USD" in said
        before = page.locator("#points input:checked").count()
        page.keyboard.press("Enter")
        assert page.locator("#points input:checked").count() != before
        # The chart is drawn anew and keeps the keyboard, at the same point.
        assert page.locator("#pareto [aria-live]").inner_text() == said
        page.keyboard.press("Enter")
        assert page.locator("#points input:checked").count() == before


def test_a_finger_sees_before_it_chooses(browser: Any, url: str) -> None:
    with Opened(browser, has_touch=True, viewport={"width": 390, "height": 844}) as opened:
        page = opened.page
        page.goto(f"{url}#points=1")
        mark = page.locator("#pareto path.mark").last
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.touchscreen.tap(x, y)
        assert page.locator("#pareto .tip").is_visible()
        assert page.locator("#points input:checked").count() == 1
        page.touchscreen.tap(x, y)
        assert page.locator("#points input:checked").count() == 2


def test_it_prints_the_whole_table(browser: Any, url: str) -> None:
    with Opened(browser) as opened:
        page = opened.page
        page.goto(url)
        assert len(page.pdf(format="A4", landscape=True)) > 20_000
        page.emulate_media(media="print")
        assert not page.locator("#filter").is_visible()
        # Browsers do not repeat buttons on every page, so that names stand for them.
        assert not page.locator("#points thead button").first.is_visible()
        told = page.locator("#points thead [data-name]").evaluate_all(
            "all => all.map((each) => getComputedStyle(each, '::before').content)"
        )
        assert told[:3] == ['"max_num_seqs"', '"rate_per_s"', '"verdict"']
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 27, 27)"
