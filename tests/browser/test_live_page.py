"""The live page in a browser: the last setting wins, a baseline is kept, a phone is enough."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import READ, Opened
from browser.test_report_page import STUDY

pytest.importorskip("starlette")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("live") / "small.yaml"
    path.write_text(STUDY)
    server = subprocess.Popen(
        [sys.executable, "-m", "experiments", "explore", str(path), "--point", "2"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    found = re.match(r"open (\S+)", server.stdout.readline())
    assert found is not None
    yield found[1]
    server.terminate()
    server.wait(20)


def test_ten_quick_moves_end_with_the_last(browser: Any, address: str) -> None:
    with Opened(browser, offline=False, viewport={"width": 1280, "height": 900}) as opened:
        page = opened.page
        page.goto(address)
        page.locator('body[data-done="{}"]').wait_for(timeout=60_000)
        page.locator("#keep").click()
        for rate in range(9, 19):
            page.locator("#knob-rate").fill(str(rate))
            page.locator("#knob-rate").press("Enter")
        page.locator("""body[data-done='{"rate":"18"}']""").wait_for(timeout=60_000)
        assert page.locator("#options").inner_text() == "--set workload.arrivals.rate_per_s=18.0"
        rows = page.locator("#differences tbody tr")
        assert rows.count() == 6
        assert "±" in rows.first.inner_text()
        state = page.evaluate("fetch('/state').then((answer) => answer.json())")
        assert state == {"busy": 0}
        # The address has what was changed: loaded again, the page shows the same.
        assert page.url.endswith("#rate=18")
        page.reload()
        page.locator("""body[data-done='{"rate":"18"}']""").wait_for(timeout=60_000)
        assert page.locator("#knob-rate").input_value() == "18"
        assert page.locator("#rate-curve .mark").count() >= 1
        assert "as much comes as can be served, or more" in page.locator("#rate-told").inner_text()
        assert opened.complaints == []


@pytest.fixture
def elsewhere(address: str) -> Iterator[str]:
    """The page of another site that links to the live page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<a href="{address}#rate=7">there</a>'.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_a_link_of_another_site_opens_it(browser: Any, elsewhere: str) -> None:
    with Opened(browser, offline=False) as opened:
        opened.page.goto(elsewhere)
        opened.page.get_by_text("there").click()
        opened.page.locator("""body[data-done='{"rate":"7"}']""").wait_for(timeout=60_000)
        assert "token" not in opened.page.url


def test_it_is_whole_at_every_width_and_for_a_screen_reader(
    browser: Any, axe: str, address: str
) -> None:
    with Opened(browser, offline=False, bypass_csp=True) as opened:
        page = opened.page
        for look in opened.looks(address):
            page.locator("#cards .card").first.wait_for(timeout=60_000)
            page.locator("#keep").click()
            page.locator("#differences tbody tr").first.wait_for(timeout=60_000)
            box = page.locator("[aria-label='Beside the baseline']")
            assert box.evaluate("box => box.scrollWidth <= box.clientWidth"), look
            assert page.evaluate("document.documentElement.scrollWidth") <= look[1], look
            if look in READ:
                assert opened.violations(axe) == [], look
