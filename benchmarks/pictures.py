"""``python -m benchmarks.pictures``: draw the pictures of README and docs again.

Bundled studies run into a folder (``--work``, kept, so that a second call goes on); their pictures,
and what a browser shows of their pages, go to docs/images. ``CHROMIUM`` names the browser, which
Playwright drives.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DRAWN = {
    "latency": ("batching_sweep", "latency.png"),
    "cache_routing": ("cache_routing", "throughput_latency.png"),
    "disaggregation": ("disaggregation", "throughput_latency.png"),
    "draft_tokens": ("draft_tokens", "throughput_latency.png"),
    "kv_tiers": ("kv_tiers", "throughput_latency.png"),
    "remote_kv": ("remote_kv", "throughput_latency.png"),
    "pools": ("mixed_gpus", "pools.png"),
}
"""By picture: the study, and the file of its results."""
PAGES = {"report": "gpu_choice", "plan": "chat_users"}
"""By picture: the study whose page is shown."""
EXPLORED = "gpu_choice"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as report (default: all)")
    parser.add_argument("--work", type=Path, help="folder of the studies' results")
    options = parser.parse_args(argv)
    work = options.work or Path(tempfile.mkdtemp(prefix="headroom-pictures-"))
    wanted = options.names or [*DRAWN, *PAGES, "explore"]
    for name in wanted:
        if name in DRAWN:
            study, file = DRAWN[name]
            shutil.copyfile(results(study, work) / file, IMAGES / f"{name}.png")
        print(name, file=sys.stderr)
    pages = [name for name in wanted if name not in DRAWN]
    if pages:
        take(pages, work)
    return 0


def results(study: str, work: Path) -> Path:
    """Run a bundled study, unless its results are there; return their folder."""
    folder = work / study
    if not (folder / "report.html").is_file():
        command = [sys.executable, "-m", "experiments", "run", study, "--out", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def take(names: Sequence[str], work: Path) -> None:
    """Take the upper part of pages."""
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name in names:
            page = browser.new_page(viewport={"width": 1100, "height": 925})
            if name in PAGES:
                page.goto((results(PAGES[name], work) / "report.html").resolve().as_uri())
                page.screenshot(path=IMAGES / f"{name}.png")
            else:
                explore(page)
        browser.close()


def explore(page: Any) -> None:
    """Keep a point of H100 as a baseline, move to A100, and take the page."""
    command = [sys.executable, "-m", "experiments", "explore", EXPLORED, "--point", "13"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.match(r"open (\S+)", server.stdout.readline())
        assert found is not None
        page.goto(found[1])
        page.locator("body[data-done='{}']").wait_for(timeout=300_000)
        page.locator("#keep").click()
        page.locator("#knob-gpu").select_option("a100-80gb-sxm")
        page.locator("""body[data-done='{"gpu":"a100-80gb-sxm"}']""").wait_for(timeout=300_000)
        page.screenshot(path=IMAGES / "explore.png")
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    sys.exit(main())
