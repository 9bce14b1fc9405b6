"""Several viewers of one server: served side by side, and a flood of one delays nobody else."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")


import httpx
from live_study import PATIENCE_S, asked, served

from experiments.exploring.server import MOST_OF_A_VIEWER


def visitor() -> Any:
    """Somebody with a cookie of their own."""
    return httpx.Client(timeout=PATIENCE_S, follow_redirects=True)


def test_three_viewers_are_served_side_by_side(study: Path) -> None:
    """Each gets all of its seeds, and nobody waits until another has all of theirs."""
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    seeds: dict[int, list[int]] = {}
    ready = threading.Barrier(3)

    def view(address: str, rate: int) -> None:
        with visitor() as viewer:
            assert viewer.get(address).status_code == 200
            page = address.partition("?")[0]
            ready.wait(PATIENCE_S)
            with viewer.stream("GET", f"{page}run?seeds=6&rate={rate}") as answer:
                for line in answer.iter_lines():
                    begun.setdefault(rate, time.perf_counter())
                    seeds.setdefault(rate, []).append(json.loads(line)["seeds"])
            ended[rate] = time.perf_counter()

    with served(study, "--point", "2", "--jobs", "2") as (_, address):
        viewers = [threading.Thread(target=view, args=(address, rate)) for rate in (9, 10, 11)]
        for each in viewers:
            each.start()
        for each in viewers:
            each.join(2 * PATIENCE_S)
    assert seeds == {rate: [1, 2, 3, 4, 5, 6] for rate in (9, 10, 11)}
    assert max(begun.values()) < min(ended.values())


@contextlib.contextmanager
def flooded(address: str, viewer: Any, count: int) -> Iterator[list[socket.socket]]:
    """So many questions of one viewer at a time, who waits for all of them."""
    page = httpx.URL(address)
    viewer.get(address)
    head = f"Host: {page.netloc.decode()}\r\nConnection: close\r\nCookie: " + "; ".join(
        f"{each.name}={each.value}" for each in viewer.cookies.jar
    )
    with contextlib.ExitStack() as flood:
        asking = []
        for place in range(count):
            one = socket.create_connection(("127.0.0.1", page.port), timeout=PATIENCE_S)
            asking.append(flood.enter_context(one))
            words = f"GET /run?seeds=8&rate={1 + place / 100} HTTP/1.1\r\n{head}\r\n\r\n"
            one.sendall(words.encode())
        yield asking


def test_a_flood_is_refused_and_leaves_nothing_to_do(study: Path) -> None:
    with served(study, "--jobs", "1") as (_, address), visitor() as viewer:
        page = address.partition("?")[0]
        with flooded(address, viewer, 3 * MOST_OF_A_VIEWER) as flood:
            answers = [each.recv(12).decode()[-3:] for each in flood[-5:]]
        assert answers == ["503"] * 5
        for _ in range(100):
            busy = viewer.get(f"{page}state").json()["busy"]
            if not busy:
                break
            time.sleep(0.05)
        assert busy == 0
        for _ in range(100):  # the last ones have left, and may not be gone yet
            answer = viewer.get(f"{page}run?seeds=1&rate=9")
            if answer.status_code != 503:
                break
            time.sleep(0.05)
        assert [json.loads(line)["seeds"] for line in answer.text.splitlines()] == [1]


def test_the_flood_of_one_viewer_does_not_delay_another(study: Path) -> None:
    """All seeds of a calm viewer are there while the other one still waits for nearly all."""
    whole = MOST_OF_A_VIEWER * 8
    with (
        served(study, "--jobs", "1") as (_, address),
        visitor() as busy,
        visitor() as calm,
        flooded(address, busy, MOST_OF_A_VIEWER) as flood,
    ):
        calm.get(address)
        assert busy.cookies != calm.cookies
        own = asked(calm, f"{address.partition('?')[0]}run?seeds=4&rate=9")
        assert [each["seeds"] for each in own] == [1, 2, 3, 4]
        there = 0
        for each in flood:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                there += each.recv(1 << 20).count(b'"seeds": ')
        assert there <= whole / 4  # in the order of asking a half would be there
