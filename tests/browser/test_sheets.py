"""Charts of small made-up pages in a browser: what their axes and legends say."""

from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Opened
from experiments.reporting.page.figures import Axis, Band, Bar, Figure
from experiments.reporting.page.sheet import Section, Sheet, write_sheet


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
