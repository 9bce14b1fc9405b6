"""What a client would have measured of a simulated run, under the names of the table's columns.

Latencies are those of answered requests, from when they were sent. Rates are answered requests and
their tokens over the time from the first request to the last answer, or to the last one given up.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from experiments.validation.rows import METRICS, RunRow
from sim.percentiles import percentiles, weighted_statistics
from sim.result import FINISHED, Result
from sim.token_gaps import token_gaps

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

PERCENTS = (50, 90, 95, 99)

SATURATED_BELOW = 0.95
"""Share of the offered requests per second below which a run is called saturated."""


def figures_of(result: Result, asked: Mask, row: RunRow) -> dict[str, float]:
    """Return every metric of a row, in the units of its columns; NaN where there is none.

    Args:
        result: of the whole run.
        asked: which of its requests are the row's.
        row: tells how it defines the inter-token latency.
    """
    column = {name: np.asarray(values, np.float64) for name, values in result.requests.items()}
    answered = asked & (column["status"] == FINISHED)
    sent_s, first_s = column["sent_s"][answered], column["first_token_s"][answered]
    finish_s, output = column["finish_s"][answered], column["output_tokens"][answered]
    several = output > 1
    samples = {
        "ttft": first_s - sent_s,
        "tpot": ((finish_s - first_s) / np.maximum(output - 1, 1))[several],
        "e2e": finish_s - sent_s,
    }
    values: dict[str, float] = {}
    for name, seconds in samples.items():
        mean = float(seconds.mean()) if len(seconds) else float("nan")
        values |= _named(name, mean, percentiles(seconds, PERCENTS))
    if any(name.startswith("itl") for name in row.measured):
        values |= _token_gaps(result, asked, row, values)
    begin_s = np.nanmin(column["sent_s"][asked], initial=np.inf)
    length_s = float(_ended_s(column)[asked].max(initial=-np.inf) - begin_s)
    values["req_s"] = int(answered.sum()) / length_s if length_s > 0 else float("nan")
    values["out_tok_s"] = float(output.sum()) / length_s if length_s > 0 else float("nan")
    return {name: values.get(name, float("nan")) for name in METRICS}


def offered_per_s(arrival_s: Floats) -> float:
    """Return the rate of a stretch of arrivals; NaN of one or of none."""
    known = arrival_s[~np.isnan(arrival_s)]
    span_s = float(known.max() - known.min()) if len(known) > 1 else 0.0
    return (len(known) - 1) / span_s if span_s > 0 else float("nan")


def is_saturated(
    row: RunRow, offered: float, predicted: dict[str, float], queue_grew: bool
) -> bool:
    """Tell whether a run is beyond what its engine can serve.

    Measured where it was: requests failed, or fewer than ``SATURATED_BELOW`` of the offered ones
    were answered in time. Elsewhere as simulated. A closed loop waits for its answers.
    """
    if row.n_failed:
        return True
    if row.closed_loop:
        return False
    rate = row.request_rate_rps or offered
    if "req_s" in row.measured:
        return row.measured["req_s"] < SATURATED_BELOW * rate
    return queue_grew or predicted["req_s"] < SATURATED_BELOW * rate


def _named(name: str, mean: float, tail: Floats) -> dict[str, float]:
    keys = ("mean", *(f"p{percent}" for percent in PERCENTS))
    values = (mean, *tail.tolist())
    return {f"{name}_{key}_ms": value * 1e3 for key, value in zip(keys, values, strict=True)}


def _token_gaps(
    result: Result, asked: Mask, row: RunRow, values: dict[str, float]
) -> dict[str, float]:
    """Inter-token latencies: gaps between tokens, or TPOT where the row's notes define it so."""
    if "itl_mean=(e2e-ttft)" in row.notes.replace(" ", ""):
        keys = ("mean", *(f"p{percent}" for percent in PERCENTS))
        return {f"itl_{key}_ms": values[f"tpot_{key}_ms"] for key in keys}
    begin_s, end_s = -np.inf, np.inf
    if not asked.all():
        begin_s = result.requests["arrival_s"][asked].min()
        end_s = np.nanmax(result.requests["finish_s"][asked])

    def sample() -> Iterator[tuple[Floats, Ints]]:
        for gaps in token_gaps(result):
            inside = (gaps.end_s >= begin_s) & (gaps.end_s <= end_s)
            yield gaps.gap_s[inside], gaps.weight[inside]

    return _named("itl", *weighted_statistics(sample, PERCENTS))


def _ended_s(column: dict[str, Floats]) -> Floats:
    """When each request was answered or given up; of one that was neither, when it arrived."""
    ended_s = np.where(np.isnan(column["finish_s"]), column["timed_out_s"], column["finish_s"])
    return np.where(np.isnan(ended_s), column["arrival_s"], ended_s)
