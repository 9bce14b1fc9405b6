"""Clients that each ask in their own way, as ServeGen publishes them: who asks when, for what.

Every client is a renewal process with the rate, the law and the shape that its window says
(``workloads.renewals``), and draws the lengths of each request from its histograms of that time.
Prompt and answer are drawn apart, as only how often each occurs is published. Each client has
streams of random numbers of its own: leaving one out changes nothing of others.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from workloads.config import LATEST_S, Config, Positive, Seconds
from workloads.counts import count_of
from workloads.renewals import TooManyError, Window, renewal_times
from workloads.requests import Floats, Ints, Requests
from workloads.streams import numbered_stream
from workloads.traces.client_files import (
    ClientFiles,
    ClientLengths,
    chunk_files,
    find_clients,
    read_windows,
)
from workloads.traces.errors import TraceError, printable


class Clients(Config):
    """Clients of a folder, as ServeGen publishes them, asking again with other luck."""

    path: Annotated[str, Field(min_length=1)]
    """A folder with chunk-N-trace.csv and chunk-N-dataset.json of every client N."""
    start_s: Annotated[float, Field(ge=0, le=LATEST_S)] = 0.0
    """Begin at this time of the windows, seconds; it is time 0 of the run."""
    stop_s: Seconds | None = None
    """End before this time of the windows, seconds; none: with the last one."""
    rate_scale: Positive = 1.0
    """So many times as many requests of every client, at the same hours."""
    leave_out: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Numbers of clients that do not ask."""
    is_random: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stop_s is not None and self.stop_s <= self.start_s:
            raise ValueError(f"stop_s(={self.stop_s:g}) must be > start_s(={self.start_s:g})")
        return self

    def anchored(self, base_dir: Path) -> "Clients":
        """Return the same with its path made absolute from ``base_dir``."""
        return self.model_copy(update={"path": str(base_dir.resolve() / self.path)})

    @property
    def files(self) -> list[str]:
        """Every file of a client in the folder, in order."""
        return [str(path) for path in chunk_files(Path(self.path))]


def requests_of_clients(clients: Clients, seed: int, most: int) -> Requests:
    """Draw the requests of all clients, by time.

    Args:
        clients: who asks.
        seed: of the streams; those of a client do not depend on the others.
        most: requests, at most.

    Raises:
        TraceError: the folder or a file cannot be used, or nobody asks in this time.
        ValueError: there are more than ``most``.
    """
    folder = Path(clients.path)
    asking: list[tuple[ClientFiles, list[Window]]] = []
    found = find_clients(folder, clients.leave_out)
    expected, end_s = 0.0, 0.0
    for files in found:
        windows = read_windows(files.trace)
        end_s = max(end_s, windows[-1].stop_s)
        windows = _within(windows, clients)
        if requests := sum(_requests(window, clients) for window in windows):
            asking.append((files, windows))
            expected += requests
    stop_s = end_s if clients.stop_s is None else min(end_s, clients.stop_s)
    if not asking:
        raise TraceError(
            f"{folder}: no client asks with start_s(={clients.start_s:g}) <= time < "
            f"stop_s(={stop_s:g}); the windows end at {end_s:g} s"
        )
    if expected > 2.0 * most:
        raise _too_many(most)
    columns = _drawn(asking, clients, stop_s, seed, most)
    told = (
        f"{printable(folder.name)}: {count_of(len(found), 'client')} of ServeGen, "
        f"{len(asking):,} of them ask in the {stop_s - clients.start_s:,.6g} s from "
        f"{clients.start_s:,.6g} s on: {expected / (stop_s - clients.start_s):,.4g} requests per "
        "second in the mean"
    )
    return _merged(columns, clients, told)


def _within(windows: list[Window], clients: Clients) -> list[Window]:
    """Return the windows, at the rate that is asked for, from start_s on; the last one is whole."""
    stop_s = np.inf if clients.stop_s is None else clients.stop_s
    return [
        window._replace(
            start_s=max(window.start_s, clients.start_s),
            rate_per_s=window.rate_per_s * clients.rate_scale,
        )
        for window in windows
        if window.start_s < stop_s and window.stop_s > clients.start_s
    ]


def _requests(window: Window, clients: Clients, later: bool = False) -> float:
    """Return the requests of a window before stop_s, in the mean, or ``later`` those after it."""
    stop_s = window.stop_s if clients.stop_s is None else min(window.stop_s, clients.stop_s)
    span_s = window.stop_s - stop_s if later else stop_s - window.start_s
    return window.rate_per_s * span_s


def _drawn(
    asking: list[tuple[ClientFiles, list[Window]]],
    clients: Clients,
    stop_s: float,
    seed: int,
    most: int,
) -> list[tuple[Floats, Ints, Ints]]:
    """Return times, prompts and answers of each client that asks."""
    columns, left = [], most
    for files, windows in asking:
        for_times, for_lengths = numbered_stream(seed, "clients", files.number).spawn(2)
        try:
            beyond = sum(_requests(each, clients, later=True) for each in windows[-1:])
            times_s, of = renewal_times(windows, for_times, left + int(2 * beyond) + 1000)
        except TooManyError:
            raise _too_many(most) from None
        count = int(np.searchsorted(times_s, stop_s, side="left"))
        left -= count
        if left < 0:
            raise _too_many(most)
        prompts, answers = _lengths(files.dataset, windows, of[:count], for_lengths)
        columns.append((times_s[:count] - clients.start_s, prompts, answers))
    return columns


def _lengths(
    path: Path, windows: list[Window], of: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Draw prompts and answers of requests, each of the window that ``of`` numbers, ascending."""
    lengths = ClientLengths(path)
    # Of every window in which the client may ask, also where it did not by chance.
    by_window = [
        lengths.window_at(window.start_s) if window.rate_per_s > 0 else -1 for window in windows
    ]
    first_s = {n: windows[by_window.index(n)].start_s for n in by_window if n >= 0}
    luck = [each.random(len(of)) for each in rng.spawn(2)]
    found = [np.zeros(len(of), dtype=np.int64) for _ in luck]
    holding = np.array(by_window, dtype=np.int64)[of]
    for number, time_s in first_s.items():
        low, high = np.searchsorted(holding, [number, number + 1], side="left")
        for each, column, histogram in zip(
            luck, found, lengths.histograms(number, time_s), strict=True
        ):
            column[low:high] = histogram.at(each[low:high])
    return found[0], found[1]


def _merged(columns: list[tuple[Floats, Ints, Ints]], clients: Clients, told: str) -> Requests:
    """Put the requests of all clients in order; at one instant those of the first client first."""
    times_s, prompts, answers = (np.concatenate(each) for each in zip(*columns, strict=True))
    whole = np.flatnonzero((prompts > 0) & (answers > 0))
    if not len(whole):
        raise TraceError(
            f"{clients.path}: no request arrives, expected one at least: take a longer time, or "
            f"more than rate_scale(={clients.rate_scale:g})"
        )
    order = whole[np.argsort(times_s[whole], kind="stable")]
    if lost := len(times_s) - len(whole):
        told += f"; {count_of(lost, 'request')} without a prompt or answer token left out"
    return Requests(
        arrival_s=times_s[order],
        prompt_tokens=prompts[order],
        output_tokens=answers[order],
        priority=np.zeros(len(order), dtype=np.int64),
        notes=(told,),
    )


def _too_many(most: int) -> ValueError:
    return ValueError(
        f"clients: more than {most} requests, which is more than memory holds, expected a shorter "
        "time (clients.start_s, stop_s) or less than clients.rate_scale"
    )
