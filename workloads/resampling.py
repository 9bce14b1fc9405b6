"""A recorded trace again with other luck: what would have come on the same day, by chance.

Within each window of time as many requests as were recorded, give or take (Poisson around their
number), at uniform times, each a recorded one of that window or of its neighbours with its lengths,
priority and prefix. What lasts longer than a window (the hours of a day, a crowd) stays; what is
shorter does not, and requests of one session no longer follow each other. It tells nothing of
another day.
"""

import numpy as np

from workloads.config import Config, Positive, Seconds
from workloads.counts import count_of
from workloads.requests import Requests


class Resample(Config):
    """Replay a trace with other luck for every seed."""

    window_s: Seconds
    """Within windows of so many seconds, before rate_scale, times are drawn anew."""
    scale: Positive = 1.0
    """So many times as many requests, at the same hours."""


def resampled(requests: Requests, how: Resample, rng: np.random.Generator) -> Requests:
    """Return requests drawn window by window from recorded ones.

    A longer trace begins with what a shorter one gives only if both have the same windows.

    Raises:
        ValueError: nothing was drawn.
    """
    recorded = requests.arrival_s
    number = (recorded / how.window_s).astype(np.int64)
    windows = int(number[-1]) + 1
    counts = np.bincount(number, minlength=windows)
    drawn = rng.poisson(counts * how.scale)
    edges = np.concatenate(([0], np.cumsum(counts)))
    first = edges[np.maximum(np.arange(windows) - 1, 0)]
    beyond = edges[np.minimum(np.arange(windows) + 2, windows)]
    of = np.repeat(np.arange(windows), drawn)
    if not len(of):
        raise ValueError(f"resample.scale(={how.scale:g}) leaves no request of the trace")
    end_s = np.minimum((np.arange(windows) + 1) * how.window_s, recorded[-1])
    begin_s = np.arange(windows) * how.window_s
    span_s = np.maximum(end_s - begin_s, 0.0)
    times_s = begin_s[of] + rng.random(len(of)) * span_s[of]
    rows = first[of] + (rng.random(len(of)) * (beyond - first)[of]).astype(np.int64)
    order = np.argsort(times_s, kind="stable")
    rows = rows[order]
    return Requests(
        arrival_s=times_s[order],
        prompt_tokens=requests.prompt_tokens[rows],
        output_tokens=requests.output_tokens[rows],
        priority=requests.priority[rows],
        prefixes=requests.prefixes and requests.prefixes.taken(rows),
        notes=(
            *requests.notes,
            f"resampled within windows of {how.window_s:g} s: {count_of(len(of), 'request')}",
        ),
    )
