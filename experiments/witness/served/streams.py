"""A light client: streams over plain sockets, so that the API server has its core to itself."""

import json
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import field

from model.dataclass import dataclass

MESSAGE, END = b'"text":', b"data: [DONE]"


@dataclass(slots=True)
class Answer:
    """One request, as the client sees it."""

    prompt_tokens: int
    output_tokens: int
    sent_s: float
    first_s: float = 0.0
    last_s: float = 0.0
    messages: int = 0
    """Fewer than tokens if the server could not keep up and sent several at once."""

    @property
    def tpot_s(self) -> float:
        """Seconds per token behind the first one."""
        return (self.last_s - self.first_s) / max(1, self.output_tokens - 1)


@dataclass(slots=True)
class _Stream:
    socket: socket.socket
    answer: Answer
    tail: bytes = b""
    """End of what came, as long as a mark may be cut."""
    done: list[Answer] = field(default_factory=list)


def burst(
    port: int, model: str, prompts: Sequence[str], output_tokens: Sequence[int], streams: int
) -> list[Answer]:
    """Send requests over so many streams, one after the other on each; return all answers."""
    rows = iter(list(zip(prompts, output_tokens, strict=True)))
    with selectors.DefaultSelector() as selector:
        live = []
        for _ in range(streams):
            connection = socket.create_connection(("127.0.0.1", port))
            stream = _Stream(connection, Answer(0, 0, 0.0))
            if not _ask(stream, model, rows):
                connection.close()
                break
            selector.register(connection, selectors.EVENT_READ, stream)
            live.append(stream)
        open_streams = len(live)
        while open_streams:
            for key, _ in selector.select(60):
                stream = key.data
                if _read(stream):
                    stream.done.append(stream.answer)
                    if not _ask(stream, model, rows):
                        selector.unregister(stream.socket)
                        stream.socket.close()
                        open_streams -= 1
    return [answer for stream in live for answer in stream.done]


def _ask(stream: _Stream, model: str, rows: "Iterator[tuple[str, int]]") -> bool:
    row = next(rows, None)
    if row is None:
        return False
    prompt, output = row
    body = json.dumps(
        {
            "model": model, "prompt": prompt, "max_tokens": output, "temperature": 0.0,
            "ignore_eos": True, "stream": True,
        }
    ).encode()  # fmt: skip
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    stream.answer = Answer(prompt.count(" ") + 1, output, time.perf_counter())
    stream.tail = b""
    stream.socket.sendall(head.encode() + body)
    return True


def _read(stream: _Stream) -> bool:
    """Take what has come; say whether the answer is complete."""
    came = stream.socket.recv(1 << 16)
    now_s = time.perf_counter()
    if not came:
        raise ConnectionError("the server closed a stream")
    text = stream.tail + came
    answer = stream.answer
    messages = text.count(MESSAGE)
    if messages:
        answer.first_s = answer.first_s or now_s
        answer.last_s = now_s
        answer.messages += messages
    if END in text:
        return True
    cut = max(text.rfind(MESSAGE) + len(MESSAGE), len(text) - len(END), 0)
    stream.tail = text[cut:]
    return False
