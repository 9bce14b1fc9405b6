"""The study that the live page is tried with, and a loop to try it in."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.page_study import page_study

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-secret"
STUDY = page_study("{workload.arrivals.rate_per_s: [4, 8]}", requests=1500)


def in_a_loop(moves: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In a thread of its own: this one's may be in use by a browser of another test."""
    with ThreadPoolExecutor(1) as one:
        one.submit(lambda: asyncio.run(moves())).result()
