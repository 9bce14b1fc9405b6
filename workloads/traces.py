"""Replaying a recorded trace: arrivals and lengths as they were, rescaled and cut to a window.

Rows that are out of order are sorted by time, stably: rows of one instant keep the file's order.
Times are counted from the earliest row, in seconds of the trace. ``start_s <= time < stop_s`` is
kept, then ``limit`` requests of it; the first one kept is moved to time 0; then times are divided
by ``rate_scale``.

Formats are in ``trace_formats``. A CSV may be gzipped (``.gz``). Not covered: what a trace does
not tell, i.e. sessions, cancelled requests, and the text itself.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.columns import Column, ones, read_columns, seconds, timestamps, tokens
from workloads.files import TraceError, no_column, read_header, read_parquet_column, read_text
from workloads.mooncake import BLOCK_TOKENS, read_mooncake
from workloads.prefixes import block_prefixes, prompt_prefixes
from workloads.requests import Floats, Ints, Prefixes, Requests
from workloads.trace_formats import TraceFormat, find_format

__all__ = ["TraceError", "read_length_column", "read_lengths", "read_trace"]

_UNITS_PER_S = {"s": 1.0, "ms": 1e3, "date": 1e9}
_ZONE = re.compile(r"\d:\d.*(Z|[+-]\d\d(:?\d\d)?)$")  # after a time of day; dates have "-" too


@dataclass(frozen=True, slots=True)
class _Rows:
    """A trace as read: file order, times from the earliest row, failed requests left out."""

    time_s: Floats | None
    prompt_tokens: Ints
    output_tokens: Ints
    prefixes: Prefixes | None = None


def read_trace(
    path: str | Path,
    *,
    rate_scale: float = 1.0,
    limit: int | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    format: str = "auto",
) -> Requests:
    """Read a trace as requests, sorted by arrival, the first at 0 s.

    ``rate_scale`` 2.0 offers twice the rate (times are halved). ``start_s`` and ``stop_s`` bound
    a window in seconds of the trace, before scaling. See the module for the order of all this.

    Raises:
        TraceError: the file is missing, of no known format, malformed (with its line), without
            arrival times, or empty, also after the window.
        ValueError: ``rate_scale``, ``limit`` or the window make no sense.
    """
    _check_arguments(rate_scale, limit, start_s, stop_s)
    path = Path(path)
    rows, form = _read(path, format)
    if rows.time_s is None:
        raise TraceError(
            f"{path}: format {form.name} holds lengths without arrival times; "
            f"write lengths: {{trace: {path.name}}} beside arrivals"
        )
    rows = _sorted(rows)
    times = rows.time_s
    assert times is not None
    low = 0 if start_s is None else int(np.searchsorted(times, start_s, side="left"))
    high = len(times) if stop_s is None else int(np.searchsorted(times, stop_s, side="left"))
    high = high if limit is None else min(high, low + limit)
    if low >= high:
        raise TraceError(
            f"{path}: no request with start_s(={start_s}) <= time < stop_s(={stop_s}); "
            f"the trace ends at {times[-1]:g} s"
        )
    return Requests(
        arrival_s=(times[low:high] - times[low]) / rate_scale,
        prompt_tokens=rows.prompt_tokens[low:high],
        output_tokens=rows.output_tokens[low:high],
        priority=np.zeros(high - low, dtype=np.int64),
        prefixes=rows.prefixes and rows.prefixes.taken(np.arange(low, high)),
    )


def read_lengths(path: str | Path, *, format: str = "auto") -> tuple[Ints, Ints]:
    """Read prompt and output tokens of every request of a trace, in the file's order.

    Raises:
        TraceError: the file is missing, of no known format, malformed (with its line), or empty.
    """
    rows, _ = _read(Path(path), format)
    return rows.prompt_tokens, rows.output_tokens


def read_length_column(path: str | Path, column: str) -> Ints:
    """Read one column of token counts from a CSV (``.gz`` or not), a Parquet file, or a trace.

    ``column`` is the file's own name; failing that, prompt_tokens and output_tokens mean those of
    a trace of any known format.

    Raises:
        TraceError: no such file or column, or a value below 1 or not a whole number.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return read_parquet_column(path, column)
    json_lines = _is_json_lines(path)
    header = [] if json_lines else read_header(path)
    if column in header:
        return read_columns(path, header, [tokens(column)])[0].astype(np.int64)
    if column in ("prompt_tokens", "output_tokens"):
        prompts, outputs = read_lengths(path)
        return prompts if column == "prompt_tokens" else outputs
    names = [*header, "prompt_tokens", "output_tokens"]
    raise TraceError(f"{path}:1: {no_column(column, names)}")


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


def _read(path: Path, name: str) -> tuple[_Rows, TraceFormat]:
    """Read every row of a trace and say which format it has."""
    if _is_json_lines(path):
        keys = read_text(path, lambda text: re.findall(r'"([^"]*)"\s*:', text.readline(100_000)))
        form = find_format(path, keys, True, name)
        times_ms, prompts, outputs, hashes = read_mooncake(path)
        prefixes = hashes and block_prefixes(*hashes, BLOCK_TOKENS, prompts)
        return _Rows(_from_first(times_ms, "ms"), prompts, outputs, prefixes), form
    header = read_header(path)
    form = find_format(path, header, False, name)
    return _read_csv(path, header, form), form


def _is_json_lines(path: Path) -> bool:
    return read_text(path, lambda text: text.read(1)) == "{"


def _read_csv(path: Path, header: list[str], form: TraceFormat) -> _Rows:
    failed = form.zero_output_failed
    columns = [
        tokens(form.prompt, excused_by=form.output if failed else None),
        tokens(form.output, smallest=0 if failed else 1),
    ]
    if form.time is not None:
        columns.append(_time_column(path, header, form.time, form.time_unit))
    if form.always_one is not None:
        columns.append(ones(form.always_one))
    named = _identity_columns(path, header, form)
    values = read_columns(path, header, [*columns, *(tokens(name, smallest=0) for name in named)])
    prompts, outputs, *others = values
    served = outputs > 0
    if not served.any():
        raise TraceError(f"{path}: holds failed requests only ({form.output} is 0 throughout)")
    prompts = prompts[served].astype(np.int64)
    prefixes = None
    if named:
        ids = dict(zip(named, (column[served] for column in values[len(columns) :]), strict=True))
        prefixes = prompt_prefixes(prompts, **ids)  # type: ignore[arg-type]
    return _Rows(
        _from_first(others[0][served], form.time_unit) if form.time is not None else None,
        prompts,
        outputs[served].astype(np.int64),
        prefixes,
    )


def _identity_columns(path: Path, header: list[str], form: TraceFormat) -> list[str]:
    """Return which of the format's columns of prompt identities a file has."""
    named = [name for name in form.identities if name in header]
    if ("prefix_id" in named) != ("prefix_tokens" in named):
        raise TraceError(f"{path}:1: prefix_id and prefix_tokens belong together, expected both")
    return named


def _time_column(path: Path, header: list[str], name: str, unit: str) -> Column:
    """Return the column of times; whether dates carry a zone is seen from the first row."""
    if unit != "date":
        return seconds(name)
    first = read_text(path, lambda text: (text.readline(), text.readline())[1]).split(",")
    index = header.index(name)
    zoned = index < len(first) and _ZONE.search(first[index].strip(' "\r\n')) is not None
    return timestamps(name, "UTC" if zoned else None)


def _from_first(times: Floats | Ints, unit: str) -> Floats:
    """Seconds since the earliest of ``times``; dates are subtracted as whole nanoseconds."""
    since: Floats = (times - times.min()) / _UNITS_PER_S[unit]
    return since


def _sorted(rows: _Rows) -> _Rows:
    times = rows.time_s
    if times is None or np.all(np.diff(times) >= 0):
        return rows
    order = np.argsort(times, kind="stable")
    prefixes = rows.prefixes and rows.prefixes.taken(order)
    return _Rows(times[order], rows.prompt_tokens[order], rows.output_tokens[order], prefixes)
