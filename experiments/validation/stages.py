"""Load stages: which requests belong to which, and at what rate each was offered."""

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.validation.rows import Run, RunRow

if TYPE_CHECKING:
    from experiments.validation.per_request import Recorded

Ints = npt.NDArray[np.int64]


class StageError(ValueError):
    """Stages whose rate, or whose requests, do not follow from the table."""


def stages_of_recorded(run: Run, recorded: "Recorded") -> Ints:
    """Return the stage of each recorded request, counted from 0 in the run's stages; -1 for none.

    A load generator sends the requests of one stage after those of another, so a stage is a stretch
    of the file: as many as ``n_requests`` of each stage says, or else as many as arrive within its
    ``duration_s``. Where rows of other stages are missing, a stage begins when as many durations
    have passed as its number says.

    Raises:
        StageError: neither is given, or the numbers do not fit the file.
    """
    total, stages = len(recorded.arrival_s), run.stages
    counts = [row.n_requests for row in stages]
    known = [count for count in counts if count is not None]
    if len(stages) == 1 and (stages[0].stage is None or not known or known[0] >= total):
        return np.zeros(total, dtype=np.int64)
    if len(known) == len(stages) and sum(known) == total:
        return np.repeat(np.arange(len(stages), dtype=np.int64), known)
    whole = [row.stage for row in stages] == list(range(len(stages)))
    if len(known) == len(stages) and (run.base.stage is None or sum(known) > total) and whole:
        raise StageError(
            f"n_requests of the stages add up to {sum(known)}, the per_request_file has {total}"
        )
    durations_s = [row.duration_s for row in stages]
    if None in durations_s:
        raise StageError(
            f"{len(stages)} stages in one per_request_file, expected n_requests or duration_s of "
            "each"
        )
    numbers = np.full(total, -1, dtype=np.int64)
    for place, (row, duration_s) in enumerate(zip(stages, durations_s, strict=True)):
        assert duration_s is not None  # as was just checked
        begin_s = duration_s * (row.stage or 0)
        first = int(np.searchsorted(recorded.arrival_s, begin_s))
        last = int(np.searchsorted(recorded.arrival_s, begin_s + duration_s))
        if row.n_requests is not None:
            first = max(0, min(first, total - row.n_requests))
            last = first + row.n_requests
        elif whole and place == len(stages) - 1:
            last = total
        numbers[first:last] = place
    return numbers


def stage_rates_per_s(run: Run) -> tuple[list[float], list[str]]:
    """Return the offered rate of each stage, and what was assumed about it.

    Where no rate is given, it may follow from requests over duration, or from a peak in words and
    the stages' shares: the mean over a whole run is the mean of the stages' means, weighted by
    their requests.

    Raises:
        StageError: the rate of a stage follows from nothing.
    """
    stages = run.stages
    rates = [_rate_per_s(row) for row in stages]
    found = [rate for rate in rates if rate is not None]
    if len(found) == len(stages):
        return found, []
    words = f"{run.base.isl_spec or ''} {run.base.osl_spec or ''} {run.base.notes}"
    peak = re.search(r"peak\s*(?:of\s*)?(\d+(?:\.\d+)?)\s*(?:rps|req|/s|qps)", words.lower())
    shares = _shares(run)
    if peak and len(stages) == 1:
        return [float(peak[1])], [f"request rate: the peak of {peak[1]}/s"]
    if peak and shares:
        rates_per_s = [float(peak[1]) * share / max(shares) for share in shares]
        listed = ", ".join(f"{rate:.3g}" for rate in rates_per_s)
        return rates_per_s, [
            f"request rates of the stages: {listed}/s, from the peak of {peak[1]}/s and the "
            "stages' shares in the published means"
        ]
    of_run = _rate_per_s(run.base)
    if of_run is not None:
        return [rate or of_run for rate in rates], [
            f"request rates of the stages: {of_run:.3g}/s each, that of the whole run"
        ]
    raise StageError(
        "no request rate, expected request_rate_rps, n_requests with duration_s, max_concurrency "
        "of a closed loop, or a per_request_file"
    )


def _rate_per_s(row: RunRow) -> float | None:
    if row.request_rate_rps is not None:
        return row.request_rate_rps
    if row.n_requests and row.duration_s:
        return row.n_requests / row.duration_s
    return None


def _shares(run: Run) -> list[float] | None:
    """Shares of two stages in the requests of the whole run, from ``m = w m0 + (1 - w) m1``."""
    stages = run.stages
    if len(stages) != 2 or run.base.stage is not None:
        return None
    first, second = (row.measured for row in stages)
    for metric in ("e2e_mean_ms", "itl_mean_ms", "tpot_mean_ms", "ttft_mean_ms"):
        if metric in first and metric in second and metric in run.base.measured:
            between = second[metric] - first[metric]
            if between:
                late = (run.base.measured[metric] - first[metric]) / between
                if 0 < late < 1:
                    return [1 - late, late]
    return None
