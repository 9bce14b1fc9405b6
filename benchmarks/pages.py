"""``python -m benchmarks.pages FILE...``: how large pages are, and how soon they are drawn.

Drawn is the time from the beginning of the navigation to when the last chart stands, by the page's
own mark, in a new window of 1280 px without network; the median of ``--repeats``. ``--explore
STUDY`` adds how soon its live page has an answer after a move: the first figures, and all seeds.
``CHROMIUM`` names the browser, which Playwright drives; with ``AXE`` (the file axe.min.js of
axe-core) the findings in the light and in the dark are counted, too.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

HEADINGS = "| page | KB | gzip, KB | drawn, ms | axe findings |\n| --- | --- | --- | --- | --- |"
SCHEMES = ("light", "dark")
RATES = (0.8, 0.9, 1.1, 1.2, 1.3)
"""Of the live page's own rate: the moves that are timed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="such as report.html")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of each page (5)")
    parser.add_argument("--explore", metavar="STUDY", help="also time the live page of a study")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for it")
    options = parser.parse_args(argv)
    if options.files:
        print(HEADINGS)
        for line in page_lines(options.files, options.repeats):
            print(line, flush=True)
    if options.explore:
        for line in live_lines(options.explore, options.set):
            print(line, flush=True)
    return 0


def page_lines(files: Sequence[Path], repeats: int) -> Iterator[str]:
    """Yield a row for each page."""
    from playwright.sync_api import sync_playwright

    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    axe = os.environ.get("AXE")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        drawn_ms(browser, files[0])  # the browser's own beginning is nobody's
        for file in files:
            content = file.read_bytes()
            took = median(drawn_ms(browser, file) for _ in range(repeats))
            findings = str(axe_findings(browser, file, Path(axe))) if axe else "not looked for"
            name = file.parent.name if file.name == "report.html" else file.stem
            small = len(gzip.compress(content, mtime=0))
            yield (
                f"| {name} | {len(content) / 1e3:.1f} | {small / 1e3:.1f} | {took:.0f} | "
                f"{findings} |"
            )
        browser.close()


def drawn_ms(browser: Any, file: Path) -> float:
    """Return when the last chart of a page stood, after the navigation began."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    marks: list[float] = page.evaluate(
        "performance.getEntriesByName('drawn').map((mark) => mark.startTime)"
    )
    context.close()
    if not marks:
        raise SystemExit(f"{file} has no mark, expected a page of this version")
    return marks[0]


def axe_findings(browser: Any, file: Path, axe: Path) -> int:
    """Return how much axe-core finds in both schemes together."""
    found = 0
    for scheme in SCHEMES:
        context = browser.new_context(offline=True, bypass_csp=True, color_scheme=scheme)
        page = context.new_page()
        page.goto(file.resolve().as_uri())
        page.evaluate(axe.read_text(encoding="utf-8"))
        found += page.evaluate("axe.run().then((told) => told.violations.length)")
        context.close()
    return found


def live_lines(study: str, settings: Sequence[str]) -> Iterator[str]:
    """Yield what the live page's server needs for an answer, move by move."""
    import httpx

    command = [sys.executable, "-m", "experiments", "explore", study]
    command += [word for each in settings for word in ("--set", each)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.match(r"open (\S+)", server.stdout.readline())
        assert found is not None
        with httpx.Client(timeout=300, follow_redirects=True) as viewer:
            page = viewer.get(found[1]).text
            rate_knob = re.search(r'"id":"rate".*?"value":([0-9.]+)', page)
            assert rate_knob is not None
            own = float(rate_knob[1])
            url = urlsplit(found[1])
            for factor in RATES:
                rate = float(f"{own * factor:.3g}")
                told = answers(viewer, f"{url.scheme}://{url.netloc}/run?rate={rate}&seeds=4")
                yield f"rate {rate:g}: " + ", ".join(f"{what} {at:.2f} s" for what, at in told)
    finally:
        server.terminate()
        server.wait(20)


def answers(viewer: Any, address: str) -> list[tuple[str, float]]:
    """Return what each line of an answer is, and when it came."""
    found, began = [], time.perf_counter()
    with viewer.stream("GET", address) as answer:
        for line in answer.iter_lines():
            told = json.loads(line)
            requests = told.get("requests")
            what = f"first look ({requests:,} requests)" if requests else f"seed {told['seeds']}"
            found.append((what, time.perf_counter() - began))
    return found


if __name__ == "__main__":
    sys.exit(main())
