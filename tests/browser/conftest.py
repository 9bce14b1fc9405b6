"""A real browser, where one is installed: Debian's Chromium, driven by Playwright, without network.

``CHROMIUM`` names the browser (/usr/bin/chromium), ``AXE`` the file axe.min.js of axe-core.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; tests are skipped with the reason where it, or what drives it, is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if found is None:
        pytest.skip("no browser: install chromium, or name one with CHROMIUM=/path")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which looks for what a screen reader cannot use."""
    given = os.environ.get("AXE", "")
    if not given or not Path(given).is_file():
        pytest.skip("axe-core is not there: AXE=/path/to/axe.min.js (npm pack axe-core)")
    return Path(given).read_text(encoding="utf-8")


LOOKS = [("light", 1280), ("light", 768), ("dark", 1280), ("dark", 390)]
"""A scheme changes colours alone (``test_colour_schemes.py``): dark at both ends is enough."""
READ = [("light", 1280), ("dark", 390)]


class Opened:
    """A page, and every complaint of the browser about it."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"offline": True, **options})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type == "error" else 0,
        )
        self.page.on("request", lambda request: self.asked.append(request.url))

    def looks(self, url: str) -> Iterator[tuple[str, int]]:
        """Load it anew in each scheme of colours, at each width; one context costs a process."""
        for scheme, width in LOOKS:
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.goto("about:blank")  # an address with the same #part is not loaded anew
            self.asked.clear()
            self.page.goto(url)
            yield scheme, width

    def violations(self, axe: str) -> list[tuple[str, str]]:
        """What a screen reader cannot use: the rule, and where it is broken first."""
        self.page.evaluate(axe)
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        return [(each["id"], each["nodes"][0]["html"]) for each in found]

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()
