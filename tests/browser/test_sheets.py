"""Charts of small made-up pages in a browser: what their axes and legends say."""

from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Opened
from experiments.reporting.page.figures import Axis, Band, Bar, Figure, Series
from experiments.reporting.page.sheet import Section, Sheet, write_sheet
from experiments.reporting.page.tables import Table


def opened_sheet(opened: Opened, folder: Path, figure: Figure) -> Any:
    path = folder / "sheet.html"
    write_sheet(path, Sheet(name="made_up", sections=[Section("Figure", figures=[figure])]))
    opened.page.goto(path.as_uri())
    return opened.page


@pytest.mark.parametrize(
    ("values", "width"), [((-8.3, 9.2), 390), ((-8.3, 9.2), 1280), ((0.0, 0.97), 390)]
)
def test_an_axis_has_two_numbers_at_least(
    browser: Any, tmp_path: Path, values: tuple[float, float], width: int
) -> None:
    bars = [Bar(f"changed by {value}", value) for value in values]
    figure = Figure("bars", "Change", Axis("change", unit="%"), bars, base=0.0)
    with Opened(browser, viewport={"width": width, "height": 900}) as opened:
        page = opened_sheet(opened, tmp_path, figure)
        ticks = page.locator("svg .tick").all_text_contents()
        assert len(ticks) >= 2
        assert len(set(ticks)) == len(ticks)
        assert opened.complaints == []


def test_a_legend_has_what_there_is(browser: Any, tmp_path: Path) -> None:
    names = ("kept:kept the SLO", "missed:missed it", "empty:without requests")
    rows = [Band("seed 1", [(0.0, 5.0, 0), (5.0, 6.0, 1)])]
    figure = Figure("bands", "Windows", Axis("h"), rows, names=names)
    with Opened(browser) as opened:
        page = opened_sheet(opened, tmp_path, figure)
        assert page.locator(".legend .key").all_inner_texts() == ["kept the SLO", "missed it"]


def test_a_page_is_drawn_anew_at_another_width_alone(browser: Any, tmp_path: Path) -> None:
    figure = Figure("bars", "Change", Axis("change", unit="%"), [Bar("one", 3.0)], base=0.0)
    with Opened(browser, viewport={"width": 1280, "height": 900}) as opened:
        page = opened_sheet(opened, tmp_path, figure)
        page.evaluate("document.querySelector('.chart svg').id = 'first'")
        page.set_viewport_size({"width": 1280, "height": 700})
        assert page.locator("#first").count() == 1
        page.set_viewport_size({"width": 390, "height": 700})
        page.locator("#first").wait_for(state="detached")
        assert page.locator(".chart svg").bounding_box()["width"] < 390


@pytest.mark.parametrize(
    "deployment", ["a100-80gb-sxm TP1", "h200-sxm TP2, max_num_batched_tokens 1024"]
)
def test_a_phone_shows_the_price_of_few_deployments_without_scrolling(
    browser: Any, tmp_path: Path, deployment: str
) -> None:
    headings = ("deployment", "replicas", "GPUs", "USD/h", "missed", "N+1", "risk")
    row = (deployment, "3", "3", "7.50 (5.00–7.50)", "0%", "yes", "0.00027%")
    section = Section("Answers", table=Table(headings, (row, row)))
    write_sheet(tmp_path / "sheet.html", Sheet(name="made_up", sections=[section]))
    with Opened(browser, viewport={"width": 390, "height": 900}) as opened:
        opened.page.goto((tmp_path / "sheet.html").as_uri())
        for text in row:
            box = opened.page.get_by_text(text, exact=True).first.bounding_box()
            assert box["x"] + box["width"] <= 390, text
    assert not Table(("change", "held"), (("prompts", "-6.0%"),)).is_read
    assert not Table(headings, (row,) * 5).is_read or len(deployment) > 40


@pytest.mark.parametrize("width", [390, 1280])
def test_what_an_interval_says_is_crossed_by_no_line(
    browser: Any, tmp_path: Path, width: int
) -> None:
    """Users of two GPUs: the line of the second one is where its text would be at the top."""
    rows = [
        Series("h200", [(4.0, 0.6), (5.0, 2.0), (6.0, 4.4), (7.0, 11.0), (8.0, 24.0)],
               span=(6.121, 6.035, 6.209, "6.121")),
        Series("b200", [(10.0, 1.0), (13.0, 5.1), (14.0, 60.0), (16.0, 90.0), (32.0, 99.0)], look=1,
               span=(12.94, 12.67, 13.22, "12.94")),
    ]  # fmt: skip
    figure = Figure("lines", "Missed", Axis("users"), rows, Axis("% that miss", log=True))
    with Opened(browser, viewport={"width": width, "height": 900}) as opened:
        page = opened_sheet(opened, tmp_path, figure)
        crossed = page.evaluate(
            """() => {
              const told = [...document.querySelectorAll(".chart text.limit-text")];
              const lines = [...document.querySelectorAll(".chart path.line, .chart line.at")];
              return told.map((text) => [text.textContent, lines.filter((line) => {
                const box = text.getBBox(), length = line.getTotalLength();
                for (let at = 0; at <= length; at += 1) {
                  const { x, y } = line.getPointAtLength(at);
                  if (x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height)
                    return true;
                }
                return false;
              }).length]);
            }"""
        )
        assert crossed == [["6.121", 0], ["12.94", 0]]
        assert opened.complaints == []
