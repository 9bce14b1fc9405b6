"""Replaying a recorded trace: arrivals and lengths as they were, rescaled and cut to a window.

Rows that are out of order are sorted by time, stably: rows of one instant keep the file's order.
Times are counted from the earliest row, in seconds of the trace. ``start_s <= time < stop_s`` is
kept, then ``limit`` requests of it; the first one kept is moved to time 0; then times are divided
by ``rate_scale``.

Not covered: what a trace does not tell, i.e. cancelled requests, and the text itself; sessions are
found afterwards (``workloads.trace_sessions``).
"""

import difflib
import math
import re
from pathlib import Path

import numpy as np

from workloads.requests import Floats, Ints, Requests
from workloads.traces.errors import TraceError, listed
from workloads.traces.fields import Whole
from workloads.traces.format import TraceFormat
from workloads.traces.links import Links
from workloads.traces.reading import look_into, read_recorded
from workloads.traces.rows import read_rows
from workloads.traces.units import Unit

_TIME = re.compile(r"time|arriv|date|created|(^|_)(ts|start)(_|$)", re.I)
"""Names of columns that may hold the time of a request."""


def read_trace(
    path: str | Path,
    *,
    rate_scale: float = 1.0,
    limit: int | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    format: str = "auto",
    time_unit: Unit | None = None,
    block_tokens: int | None = None,
    prefixes: bool = True,
) -> Requests:
    """Read a trace as requests, sorted by arrival, the first at 0 s: see ``read_linked``."""
    found, _ = read_linked(
        path, rate_scale=rate_scale, limit=limit, start_s=start_s, stop_s=stop_s, format=format,
        time_unit=time_unit, block_tokens=block_tokens, prefixes=prefixes, links=False,
    )  # fmt: skip
    return found


def read_linked(
    path: str | Path,
    *,
    rate_scale: float = 1.0,
    limit: int | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    format: str = "auto",
    time_unit: Unit | None = None,
    block_tokens: int | None = None,
    prefixes: bool = True,
    links: bool = True,
) -> tuple[Requests, Links | None]:
    """Read a trace as requests, sorted by arrival, the first at 0 s; and who waits for whom.

    ``rate_scale`` 2.0 offers twice the rate (times are halved). ``start_s`` and ``stop_s`` bound
    a window in seconds of the trace, before scaling. See the module for the order of all this.
    ``time_unit`` and ``block_tokens`` stand in for the format's; without ``prefixes`` nothing is
    read, or wrong, about which prompts begin alike. The requests' notes say what was read. There
    are no ``links`` where nobody asks for them, or the file does not say so itself.

    Raises:
        TraceError: the file is missing, of no known format, malformed (with its line), without
            arrival times, or empty, also after the window.
        ValueError: ``rate_scale``, ``limit`` or the window make no sense.
    """
    _check_arguments(rate_scale, limit, start_s, stop_s)
    path = Path(path)
    recorded = read_recorded(
        path, format=format, time_unit=time_unit, block_tokens=block_tokens, prefixes=prefixes,
        links=links,
    )  # fmt: skip
    times = recorded.time_s
    if times is None:
        raise TraceError(f"{path}: {_without_times(path, recorded.format.name)}")
    low = 0 if start_s is None else int(np.searchsorted(times, start_s, side="left"))
    high = len(times) if stop_s is None else int(np.searchsorted(times, stop_s, side="left"))
    high = high if limit is None else min(high, low + limit)
    if low >= high:
        raise TraceError(
            f"{path}: no request with start_s(={start_s}) <= time < stop_s(={stop_s}); "
            f"the trace ends at {times[-1]:g} s"
        )
    arrival_s = (times[low:high] - times[low]) / rate_scale
    requests = Requests(
        arrival_s=arrival_s,
        prompt_tokens=recorded.prompt_tokens[low:high],
        output_tokens=recorded.output_tokens[low:high],
        priority=np.zeros(high - low, dtype=np.int64),
        prefixes=recorded.prefixes and recorded.prefixes.taken(np.arange(low, high)),
        notes=(recorded.account.text() + _replayed(arrival_s, len(times), rate_scale),),
    )
    return requests, recorded.links and recorded.links.window(low, high)


def read_lengths(path: str | Path, *, format: str = "auto") -> tuple[Ints, Ints]:
    """Read prompt and output tokens of every request of a trace, in the file's order.

    Raises:
        TraceError: the file is missing, of no known format, malformed (with its line), or empty.
    """
    recorded = read_recorded(Path(path), format=format, prefixes=False, by_time=False)
    return recorded.prompt_tokens, recorded.output_tokens


def told_of_lengths(path: str | Path) -> str:
    """Say what ``read_lengths`` reads of a file. Raises TraceError as it does."""
    return read_recorded(Path(path), prefixes=False, by_time=False).account.text()


def read_length_column(path: str | Path, column: str) -> Ints:
    """Read one column of token counts from a table of any shape, or a trace.

    ``column`` is the file's own name; failing that, prompt_tokens and output_tokens mean those of
    a trace of any known format.

    Raises:
        TraceError: no such file or column, or a value below 1 or not a whole number.
    """
    path = Path(path)
    source = look_into(path)
    if source.names.count(column) > 1:
        raise TraceError(f"{source.names_at}: column {column!r} must be in the header once")
    if column in source.names:
        form = TraceFormat("column", None, column, column, "a column of its own")
        values = read_rows(source, form, [Whole(column)], None).values[0]
        return values.astype(np.int64, copy=False)
    if column in ("prompt_tokens", "output_tokens"):
        prompts, outputs = read_lengths(path)
        return prompts if column == "prompt_tokens" else outputs
    names = [*source.names, "prompt_tokens", "output_tokens"]
    raise TraceError(f"{source.names_at}: {no_column(column, names)}")


def no_column(name: str, names: list[str]) -> str:
    """Say that a file lacks a column, which it has, and which comes near."""
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; nearest: {near[0]}" if near else ""
    return f"no column {name!r}, expected one of {listed(names)}{hint}"


def _without_times(path: Path, format: str) -> str:
    """Say what to do with lengths alone; a column that may be a time has no name that tells it."""
    told = next((name for name in look_into(path).names if _TIME.search(name)), None)
    timed = f"; if {told} holds the arrivals, name it arrival_s, in seconds" if told else ""
    return (
        f"format {format} holds lengths without arrival times; write lengths: "
        f"{{trace: {path.name}}} beside arrivals{timed}"
    )


def _replayed(arrival_s: Floats, recorded: int, rate_scale: float) -> str:
    """Say what is replayed of a trace, unless it is all of it as it was."""
    if len(arrival_s) == recorded and rate_scale == 1.0:
        return ""
    scale = "" if rate_scale == 1.0 else f", {rate_scale:g} times as fast"
    return f"; replayed: {len(arrival_s):,} of them over {arrival_s[-1]:,.6g} s{scale}"


def _check_arguments(
    rate_scale: float, limit: int | None, start_s: float | None, stop_s: float | None
) -> None:
    if not 0 < rate_scale < math.inf:
        raise ValueError(f"rate_scale(={rate_scale}) must be > 0 and finite")
    if limit is not None and limit < 1:
        raise ValueError(f"limit(={limit}) must be >= 1")
    if start_s is not None and not 0 <= start_s < math.inf:
        raise ValueError(f"start_s(={start_s}) must be >= 0 and finite")
    if stop_s is not None and not (start_s or 0.0) < stop_s:
        raise ValueError(f"stop_s(={stop_s}) must be > start_s(={start_s or 0.0})")
