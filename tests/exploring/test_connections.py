"""Connections of the live page's server: none is held by who says nothing, and all end with it."""

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")


import httpx
from live_study import PATIENCE_S, in_a_loop, served

from experiments.exploring.connections import Connection, Server
from experiments.exploring.workers import ENDED, Workers


async def slowly(scope: Any, receive: Any, send: Any) -> None:
    """An answer that takes longer than the head of a request may."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in (b"a", b"b", b"c"):
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": part, "more_body": part != b"c"})


def test_who_says_nothing_or_says_it_slowly_holds_no_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.exploring.connections.HEAD_S", 0.3)

    async def moves() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        server = Server(Workers(1, tmp_path), slowly)
        assert server.config.http is Connection
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        address = listening.getsockname()
        nothing, _ = await asyncio.open_connection(*address)
        reader, writer = await asyncio.open_connection(*address)
        answered, asking = await asyncio.open_connection(*address)
        asking.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = iter(b"GET / HTTP/1.1\r\nHost: a\r\nX-And-So-On: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
        while not reader.at_eof():
            writer.write(bytes([next(head)]))  # it runs out of them if nothing ends
            await asyncio.sleep(0.05)
        assert await nothing.read() == b""
        assert (await answered.readuntil(b"0\r\n\r\n")).count(b"\r\n1\r\n") == 3
        asking.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET")  # and half of a third one
        again = await answered.read()  # until it is closed
        assert again.count(b"\r\n1\r\n") == 3
        server.should_exit = True
        await serving

    in_a_loop(moves)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_moves_under_way_end_with_the_server_and_say_so(
    study: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    """Nothing is begun again, nobody is left without an answer, no traceback is printed."""
    with (tmp_path / "errors").open("w+") as errors:
        with (
            served(study, "--jobs", "1", errors=errors) as (server, address),
            httpx.Client(timeout=PATIENCE_S, follow_redirects=True) as viewer,
        ):
            viewer.get(address)
            page = address.partition("?")[0]
            told: list[dict[str, Any]] = []
            with viewer.stream("GET", f"{page}run?seeds=8&rate=11") as answer:
                for line in answer.iter_lines():
                    if not told:
                        server.send_signal(ending)
                    told.append(json.loads(line))
            assert told[-1] == {"error": ENDED}
            assert len(told) < 9
            server.wait(PATIENCE_S)
        errors.seek(0)
        text = errors.read()
    assert "Traceback" not in text
    assert "ERROR" not in text
