"""What a client would have measured of a simulated run, under the names of the table's columns.

Latencies are those of answered requests, from when they were sent. Rates are answered requests and
their tokens over the time from the first request to the last answer, or to the last one given up.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from experiments.validation.rows import METRICS, RunRow
from hardware.engines.table import vllm
from sim.measuring.percentiles import percentiles, quantiles_at
from sim.measuring.token_gaps import token_gaps
from sim.measuring.weighted import weighted_statistics
from sim.recording.result import FINISHED, Result

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

PERCENTS = (50, 90, 95, 99)

TAIL = 90
"""From this percentile on, one slow step in a hundred counts."""

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
    output = column["output_tokens"][answered]
    values: dict[str, float] = {}
    for name, seconds in _samples(column, answered).items():
        mean = float(seconds.mean()) if len(seconds) else float("nan")
        values |= _named(name, mean, percentiles(seconds, PERCENTS))
    if any(name.startswith("itl") for name in row.measured):
        values |= _token_gaps(result, asked, row, values)
    begin_s = np.nanmin(column["sent_s"][asked], initial=np.inf)
    length_s = float(_ended_s(column)[asked].max(initial=-np.inf) - begin_s)
    values["req_s"] = int(answered.sum()) / length_s if length_s > 0 else float("nan")
    values["out_tok_s"] = float(output.sum()) / length_s if length_s > 0 else float("nan")
    return {name: values.get(name, float("nan")) for name in METRICS}


def spreads_of(result: Result, asked: Mask) -> dict[str, float]:
    """Return by how much a percentile of one run varies: a standard error of its logarithm.

    From the order statistics around it: of n requests, the p-th percentile of another run of the
    same kind lies as probably as not ``sqrt(n p (1 - p))`` requests higher or lower (David and
    Nagaraja, "Order Statistics", 2003, section 7.1). Requests of one queue depend on each other, so
    that it is the least that a percentile varies by. That of few requests is known badly: of 200
    the 99th is the second or third longest.
    """
    column = {name: np.asarray(values, np.float64) for name, values in result.requests.items()}
    spreads: dict[str, float] = {}
    for name, seconds in _samples(column, asked & (column["status"] == FINISHED)).items():
        count = len(seconds)
        if count < 2:
            continue
        for percent in PERCENTS:
            share = percent / 100
            aside = np.sqrt(share * (1 - share) / count)
            low, high = quantiles_at(seconds, [max(share - aside, 0.0), min(share + aside, 1.0)])
            if low > 0:
                spreads[f"{name}_p{percent}_ms"] = float(np.log(high / low) / 2)
    return spreads


def log_spread(draws: Sequence[float]) -> float:
    """Return the deviation of the logarithms of a figure by draws; NaN if one is not above 0.

    Some figures jump by a factor from one draw to another, such as a percentile of the gaps between
    tokens, of which some hold a prompt: relative to their mean they would vary beyond all bounds.
    """
    if len(draws) < 2:
        return 0.0
    return float(np.std(np.log(draws), ddof=1)) if min(draws) > 0 else float("nan")


def stalls_of(metric: str, gpu: str) -> float:
    """Return by how much a figure may be longer, and never shorter, for what hosts do that nobody
    simulates: a standard error of the logarithm.

    0 but of the highest percentiles of TTFT, and of all of it on servers of another GPU than the
    constants were fitted on, whose host is another one as well.
    """
    name, _, percent = metric.removesuffix("_ms").partition("_p")
    if name.partition("_")[0] != "ttft":
        return 0.0
    error = vllm().price_error
    reaches = percent.isdigit() and int(percent) >= TAIL
    return error.tail if reaches or gpu not in error.fitted_on else 0.0


def _samples(column: dict[str, Floats], answered: Mask) -> dict[str, Floats]:
    """Latencies of answered requests, seconds."""
    sent_s, first_s = column["sent_s"][answered], column["first_token_s"][answered]
    finish_s, output = column["finish_s"][answered], column["output_tokens"][answered]
    several = output > 1
    return {
        "ttft": first_s - sent_s,
        "tpot": ((finish_s - first_s) / np.maximum(output - 1, 1))[several],
        "e2e": finish_s - sent_s,
    }


def span_s(arrival_s: Floats) -> float:
    """Return how long a stretch of arrivals lasts; NaN of one or of none."""
    known = arrival_s[~np.isnan(arrival_s)]
    return float(known.max() - known.min()) if len(known) > 1 else float("nan")


def offered_per_s(arrival_s: Floats) -> float:
    """Return the rate of a stretch of arrivals; NaN of one or of none."""
    count, lasts_s = int((~np.isnan(arrival_s)).sum()), span_s(arrival_s)
    return (count - 1) / lasts_s if lasts_s > 0 else float("nan")


BELOW, ABOVE = "below saturation", "above saturation"
ONLY_SIMULATED = "saturated in the simulation only"
"""Of a run whose measurements do not tell."""


def load_of(
    row: RunRow, offered: float, span_s: float, predicted: dict[str, float], queue_grew: bool
) -> str:
    """Tell whether a run is beyond what its engine can serve.

    By the measurements wherever they tell, else by the simulation. A closed loop waits for its
    answers.

    Args:
        row: with its measurements.
        offered: requests per second; NaN if unknown.
        span_s: time over which they arrive; NaN if unknown.
        predicted: figures of the simulated run.
        queue_grew: whether its queue grew to the end.
    """
    rate = row.request_rate_rps or offered
    measured = measured_saturation(row, rate, row.duration_s or span_s)
    if measured is not None:
        return ABOVE if measured else BELOW
    simulated = queue_grew or predicted["req_s"] < SATURATED_BELOW * rate
    return ONLY_SIMULATED if simulated else BELOW


def measured_saturation(row: RunRow, rate_per_s: float, span_s: float) -> bool | None:
    """Return what the measurements say of a run's saturation; None where they say nothing.

    Requests failed, or fewer than ``SATURATED_BELOW`` of those offered per second were answered.
    Where only latencies were measured: a run that answers that share waits for half of the rest of
    its span in the mean, and one that answers all of them does not.
    """
    if row.n_failed:
        return True
    if row.closed_loop or row.all_at_once:
        return False
    if "req_s" in row.measured and rate_per_s > 0:
        return row.measured["req_s"] < SATURATED_BELOW * rate_per_s
    if "out_tok_s" in row.measured and row.osl_mean and rate_per_s > 0:
        return row.measured["out_tok_s"] < SATURATED_BELOW * rate_per_s * row.osl_mean
    if row.max_concurrency is not None or not span_s > 0:
        return None  # what waits, waits at the client
    for name in ("ttft_mean_ms", "ttft_p50_ms", "e2e_mean_ms", "e2e_p50_ms"):
        if name in row.measured:
            waited_s = row.measured[name] / 1e3
            return waited_s > (1 - SATURATED_BELOW) / 2 * span_s
    return None


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
        """Give the gaps of asked requests in blocks: seconds, and how often each."""
        for gaps in token_gaps(result):
            inside = (gaps.end_s >= begin_s) & (gaps.end_s <= end_s)
            yield gaps.gap_s[inside], gaps.weight[inside]

    mean, tail, _ = weighted_statistics(sample, PERCENTS)
    return _named("itl", mean, tail)


def _ended_s(column: dict[str, Floats]) -> Floats:
    """When each request was answered or given up; of one that was neither, when it arrived."""
    ended_s = np.where(np.isnan(column["finish_s"]), column["timed_out_s"], column["finish_s"])
    return np.where(np.isnan(ended_s), column["arrival_s"], ended_s)
