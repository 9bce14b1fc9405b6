"""The folders that ServeGen publishes: of each client its windows of arrivals, and its lengths.

``chunk-N-trace.csv`` has a row ``start_s,rate,cv,law,shape,scale`` for each window, without a
header: requests per second, and the law of the gaps that was fitted. ``chunk-N-dataset.json`` has
histograms ``"{tokens: share}"`` of prompts and answers by the second since which they hold (see
github.com/alibaba/ServeGen, Xiang et al., arXiv:2505.09999). As in ServeGen the rate counts, and of
the law its name and shape; the scale and the cv, which follow from them, are not used.

Not covered: clients that send images, audio or video.
"""

import bisect
import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workloads.renewals import GAP_LAWS, MOST_SHAPE, Window
from workloads.requests import Floats, Ints
from workloads.traces.errors import TraceError, listed, shown

_CHUNK = re.compile(r"chunk-(0|[1-9][0-9]{0,8})-(trace\.csv|dataset\.json)")
_COLUMNS = ("start_s", "rate", "cv", "law", "shape", "scale")
_LENGTHS = ("input_tokens", "output_tokens")
_IGNORED = ("reason_ratio",)
"""How an answer is divided into thoughts and words: it has as many tokens either way."""
_MOST_RATE = 1e9
_MOST_TOKENS = 10**9
_TO_ONE = 1e-6
"""How far from one the shares of a histogram may add up, as in ServeGen."""


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Where a client is described."""

    number: int
    trace: Path
    dataset: Path


class Histogram(NamedTuple):
    """Lengths and how often each occurs."""

    tokens: Ints
    """Shape (bins,)."""
    upto: Floats
    """Share of the requests with these tokens, or those of a bin before: shape (bins,)."""

    def at(self, luck: Floats) -> Ints:
        """Return the length at each of ``luck``, uniform on [0, 1)."""
        bins = np.searchsorted(self.upto, luck * self.upto[-1], side="right")
        found: Ints = self.tokens[np.minimum(bins, len(self.tokens) - 1)]
        return found


def chunk_files(folder: Path) -> list[Path]:
    """Return the files of clients in a folder, by client; none where there is no such folder."""
    try:
        names = [path for path in folder.iterdir() if _CHUNK.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(names, key=lambda path: (int(path.name.split("-")[1]), path.name))


def find_clients(folder: Path, leave_out: Collection[int]) -> list[ClientFiles]:
    """Return the clients of a folder, by number, without some.

    Raises:
        TraceError: no folder, no clients, or clients of whom a file is missing.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise TraceError(
            f"{folder}: {what}, expected a folder with chunk-N-trace.csv and chunk-N-dataset.json"
        )
    there = {path.name for path in chunk_files(folder)}
    numbers = sorted({int(name.split("-")[1]) for name in there})
    if not numbers:
        raise TraceError(
            f"{folder}: holds no client, expected chunk-N-trace.csv and chunk-N-dataset.json"
        )
    strangers = [str(number) for number in leave_out if number not in numbers]
    if strangers:
        raise TraceError(
            f"{folder}: leave_out names {listed(strangers)}, expected clients of the folder: "
            f"{listed([str(number) for number in numbers])}"
        )
    found = [
        ClientFiles(n, folder / f"chunk-{n}-trace.csv", folder / f"chunk-{n}-dataset.json")
        for n in numbers
        if n not in leave_out
    ]
    lacking = [
        (one.number, path.name)
        for one in found
        for path in (one.trace, one.dataset)
        if path.name not in there
    ]
    if lacking:
        without = sorted({*leave_out, *(number for number, _ in lacking)})
        raise TraceError(
            f"{folder}: {listed([name for _, name in lacking])} missing, expected both files of "
            f"each client; leave_out: {without} does without these clients"
        )
    if not found:
        raise TraceError(f"{folder}: leave_out leaves no client, expected one at least")
    return found


def read_windows(path: Path) -> list[Window]:
    """Read the windows of one client, each until the next; the last is as long as the one before.

    Raises:
        TraceError: the file cannot be read, or a row, with its line, is wrong.
    """
    rows: list[tuple[float, float, str, float]] = []
    for line, text in enumerate(_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            row = _row(text)
            if rows and row[0] <= rows[-1][0]:
                raise ValueError(
                    f"start_s = {row[0]:g} comes after {rows[-1][0]:g}, expected windows in order "
                    "of time, each once"
                )
        except ValueError as error:
            raise TraceError(f"{path}:{line}: {error}") from None
        rows.append(row)
    if len(rows) < 2:
        raise TraceError(
            f"{path}: holds {len(rows)} windows, expected two at least, which tell how long one is"
        )
    starts = [row[0] for row in rows]
    stops = [*starts[1:], 2 * starts[-1] - starts[-2]]
    return [
        Window(start, stop, rate, law, shape)
        for stop, (start, rate, law, shape) in zip(stops, rows, strict=True)
    ]


def _row(text: str) -> tuple[float, float, str, float]:
    """Return start, rate, law and shape of a window. Raises ValueError."""
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) != len(_COLUMNS):
        raise ValueError(f"has {len(cells)} values, expected {', '.join(_COLUMNS)}")
    law = cells[3]
    numbers = {
        name: _number(name, cell)
        for name, cell in zip(_COLUMNS, cells, strict=True)
        if name != "law"
    }
    rate, shape = numbers["rate"], numbers["shape"]
    if rate > _MOST_RATE:
        raise ValueError(f"rate = {rate:g}, expected at most {_MOST_RATE:g} requests per second")
    if law not in GAP_LAWS and (law or rate > 0):
        raise ValueError(f"law = {shown(law)} is unknown, expected one of {', '.join(GAP_LAWS)}")
    if rate > 0 and not GAP_LAWS[law].least_shape <= shape <= MOST_SHAPE:
        raise ValueError(
            f"shape = {shape:g} of law {law}, expected {GAP_LAWS[law].least_shape:g} to "
            f"{MOST_SHAPE:g}"
        )
    return numbers["start_s"], rate, law, shape


def _number(name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} = {shown(cell)}, expected a number of at least 0")
    return value


class ClientLengths:
    """The histograms of one client, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises TraceError: it is no JSON object of windows in order."""
        self.path = path
        self._source = _text(path)
        try:
            windows = json.loads(self._source)
        except json.JSONDecodeError as error:
            raise TraceError(f"{path}:{error.lineno}: no JSON: {error.msg}") from None
        except RecursionError:
            raise TraceError(f"{path}: no JSON that a client has: nested too deep") from None
        if not isinstance(windows, dict) or not windows:
            raise TraceError(f"{path}: expected an object of windows, {{second: lengths}}")
        self._windows = windows
        self._keys = list(windows)
        self.starts_s: list[float] = []
        """Since when each window holds, ascending."""
        for number, key in enumerate(self._keys):
            try:
                start_s = _number("second", key)
                if self.starts_s and start_s <= self.starts_s[-1]:
                    raise ValueError(
                        f"second {key} comes after {self._keys[number - 1]}, expected windows in "
                        "order of time"
                    )
            except ValueError as error:
                raise TraceError(f"{self._at(number)}: {error}") from None
            self.starts_s.append(start_s)

    def window_at(self, time_s: float) -> int:
        """Return the number of the window that holds at a time. Raises TraceError: none yet."""
        number = bisect.bisect_right(self.starts_s, time_s) - 1
        if number < 0:
            raise TraceError(
                f"{self._at(0)}: lengths since {self.starts_s[0]:g} s, but the client asks from "
                f"{time_s:g} s on"
            )
        return number

    def histograms(self, number: int, time_s: float) -> tuple[Histogram, Histogram]:
        """Return the lengths of prompts and answers of a window in which the client asks.

        Raises:
            TraceError: with the line of the window, what is wrong with them.
        """
        fields = self._windows[self._keys[number]]
        try:
            if not isinstance(fields, dict):
                raise ValueError(f"expected an object with {' and '.join(_LENGTHS)}")
            others = [name for name in fields if name not in (*_LENGTHS, *_IGNORED)]
            if others:
                raise ValueError(
                    f"{listed(others)} of a client are not modelled, expected "
                    f"{' and '.join(_LENGTHS)}"
                )
            prompts, answers = (_histogram(name, fields, time_s) for name in _LENGTHS)
        except ValueError as error:
            raise TraceError(f"{self._at(number)}: window {self._keys[number]}: {error}") from None
        return prompts, answers

    def _at(self, number: int) -> str:
        """Return the file and the line where a window begins."""
        found = re.search(re.escape(json.dumps(self._keys[number])) + r"\s*:", self._source)
        line = 1 if found is None else self._source.count("\n", 0, found.start()) + 1
        return f"{self.path}:{line}"


def _histogram(name: str, fields: dict[str, object], time_s: float) -> Histogram:
    """Read one histogram. Raises ValueError."""
    if name not in fields:
        raise ValueError(f"{name} is missing")
    text = fields[name]
    if not isinstance(text, str) or not re.fullmatch(r"\s*\{.*\}\s*", text):
        raise ValueError(
            f"{name} is {shown(text)}, expected a text such as '{{120: 0.5, 300: 0.5}}'"
        )
    inner = text.strip()[1:-1].strip().removesuffix(",")
    if not inner:
        raise ValueError(f"{name} is empty, but the client asks at {time_s:g} s")
    tokens, shares = [], []
    for part in inner.split(","):
        key, _, share = part.partition(":")
        if not re.fullmatch(r"\s*[0-9]{1,10}\s*", key) or int(key) > _MOST_TOKENS:
            raise ValueError(f"{name}: {shown(part.strip())}, expected TOKENS: SHARE")
        tokens.append(int(key))
        shares.append(_number(f"{name}: share of {int(key)} tokens", share.strip()))
    if not abs(math.fsum(shares) - 1) <= _TO_ONE:
        raise ValueError(f"{name}: shares add up to {math.fsum(shares):g}, expected 1")
    return Histogram(np.array(tokens, dtype=np.int64), np.cumsum(shares))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path}: no UTF-8 text") from None
