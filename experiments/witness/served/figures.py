"""Figures of a run as its client and its server tell them, and the same of a simulated one."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.measuring.token_gaps import token_gaps
from sim.recording.result import Result

Floats = npt.NDArray[np.float64]
STATISTICS = {"mean": None, "p50": 50, "p99": 99}
LATENCIES = ("ttft", "itl", "tpot", "e2e")
METRICS = (
    *(f"{latency}_{statistic}_s" for latency in LATENCIES for statistic in STATISTICS),
    "request_throughput_per_s", "output_tokens_per_s", "mean_running", "mean_waiting",
    "preemptions", "hit_rate",
)  # fmt: skip


def measured(
    columns: Mapping[str, Sequence[float]],
    counted: Mapping[str, float],
    samples: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    """Figures of a real run, from what ``run_bench`` returns."""
    told = {name: np.array(values, float) for name, values in columns.items()}
    sent_s = told["sent_s"]
    return {
        **_of_client(
            sent_s, sent_s + told["ttft_s"], sent_s + told["e2e_s"], told["output_tokens"],
            told["gaps_s"],
        ),
        "mean_running": float(np.mean([one["running"] for one in samples])),
        "mean_waiting": float(np.mean([one["waiting"] for one in samples])),
        "preemptions": counted["preemptions"],
        "hit_rate": counted["hits"] / counted["queries"] if counted["queries"] else 0.0,
    }  # fmt: skip


def predicted(result: Result, at_s: Sequence[float]) -> dict[str, float]:
    """The same figures of a simulated run; the server is looked at when the real one was."""
    columns = {name: np.asarray(values, float) for name, values in result.requests.items()}
    gaps = [np.repeat(one.gap_s, one.weight) for one in token_gaps(result)]
    running, waiting = occupancy(columns, columns["sent_s"].min() + np.array(at_s))
    return {
        **_of_client(
            columns["sent_s"], columns["first_token_s"], columns["finish_s"],
            columns["output_tokens"], np.concatenate(gaps),
        ),
        "mean_running": float(running.mean()),
        "mean_waiting": float(waiting.mean()),
        "preemptions": float(columns["preemptions"].sum()),
        "hit_rate": float(columns["cached_tokens"].sum() / columns["prompt_tokens"].sum()),
    }  # fmt: skip


def occupancy(columns: Mapping[str, Floats], at_s: Floats) -> tuple[Floats, Floats]:
    """Requests that run and that wait at some times. Who was preempted counts as running."""

    def before(name: str) -> Floats:
        """Return how many passed that mark by each time, shape of ``at_s``."""
        return np.searchsorted(np.sort(columns[name]), at_s, side="right").astype(float)

    started = before("first_scheduled_s")
    return started - before("finish_s"), before("reached_s") - started


def _of_client(
    sent_s: Floats, first_s: Floats, last_s: Floats, output: Floats, gaps_s: Floats
) -> dict[str, float]:
    several = output > 1
    samples = {
        "ttft": first_s - sent_s,
        "itl": gaps_s,
        "tpot": (last_s - first_s)[several] / (output[several] - 1),
        "e2e": last_s - sent_s,
    }
    lasted_s = last_s.max() - sent_s.min()
    return {
        **{
            f"{latency}_{name}_s": float(
                seconds.mean() if percent is None else np.percentile(seconds, percent)
            )
            for latency, seconds in samples.items()
            for name, percent in STATISTICS.items()
        },
        "request_throughput_per_s": len(sent_s) / lasted_s,
        "output_tokens_per_s": float(output.sum() / lasted_s),
    }
