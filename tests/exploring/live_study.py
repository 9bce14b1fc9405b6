"""The study that the live page is tried with, a loop to try it in, and a server of its own."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from tests.page_study import page_study

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-secret"
STUDY = page_study("{workload.arrivals.rate_per_s: [4, 8]}", requests=1500)
PATIENCE_S = 120.0
"""How long an answer may take before a test fails, on a machine that does much else."""


def in_a_loop(moves: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In a thread of its own: this one's may be in use by a browser of another test.

    Moves that wait for what never comes fail, and do not hold up the other tests.
    """
    with ThreadPoolExecutor(1) as one:
        one.submit(lambda: asyncio.run(asyncio.wait_for(moves(), PATIENCE_S))).result()


@contextlib.contextmanager
def served(
    study: Path, *words: str, errors: IO[str] | int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its address; it is gone afterwards, whatever became of the test."""
    server = subprocess.Popen(
        [sys.executable, "-m", "experiments", "explore", str(study), *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        found = re.match(r"open (http://127\.0\.0\.1:\d+/\?token=\S+)", server.stdout.readline())
        assert found is not None
        yield server, found[1]
    finally:
        server.terminate()
        try:
            server.wait(20)
        finally:
            server.kill()


def asked(viewer: Any, address: str) -> list[dict[str, Any]]:
    """Return all lines of an answer."""
    return [json.loads(line) for line in viewer.get(address).text.splitlines()]


def descendants(parent: int) -> list[int]:
    """Return every process that a process started, and what these started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        found = [int(pid) for pid in listed.read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return [*found, *(pid for each in found for pid in descendants(each))]


def forked(pid: int, others: list[int]) -> bool:
    """Return whether one of the others started a process."""
    return any(pid in descendants(other) for other in others)
