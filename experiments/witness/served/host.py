"""What a server spends outside its steps, as functions of prompt tokens, streams and tokens.

Fitted to phases in which nothing else happens. The engine, per step::

    time per token of n streams that began together - price of a step of n = a + b n

The way in, of requests alone: time to the first token - price of the prompt = c + d tokens. The API
server's loop: CPU seconds = e requests + f prompt tokens + g steps + h output tokens. An engine
that is busy has two times of its own, which make the TTFT and the TPOT of a closed loop what they
were: its threads that read requests and send tokens wait for the interpreter's lock, which its
steps have, and take their time from these.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

PROMPTS = (16, 64, 128, 192, 256)
ALONE = 16
"""Requests of each length."""
CHURN = (160, 160, 32)
"""Requests, tokens of each prompt and of each answer,"""
CHURNING = 8
"""over so many streams."""

Phase = Mapping[str, Any]
StepPrice = Callable[[int, int, Sequence[tuple[int, int]]], float]
"""Seconds of a step of so many decodes, with a mean context, and chunks."""

Churn = Callable[["HostTimes", Phase], tuple[float, float]]
"""TTFT and TPOT in the mean of a phase of short requests, in the simulation."""


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Seconds."""

    step_s: float
    """Between two steps of the engine, on top of what was timed in it,"""
    sequence_s: float
    """and for each sequence."""
    engine_request_s: float
    """Of the engine, for each request that comes."""
    busy_request_s: float
    """From the client to the scheduler and back with the first token, while the engine is busy,"""
    request_s: float
    """of a request alone,"""
    token_s: float
    """and for each token of its prompt."""
    loop_request_s: float
    """In which the API server does nothing else."""
    loop_token_s: float
    """The same for each token of the prompt,"""
    loop_step_s: float
    """for each step whose tokens it sends,"""
    loop_output_s: float
    """and for each token."""


def host_times(phases: Sequence[Phase], step_price: StepPrice, churn: Churn) -> HostTimes:
    """Fit the phases.

    Args:
        phases: what was measured.
        step_price: of a step.
        churn: what the simulation makes of a phase of short requests.
    """
    bursts = [one for one in phases if one["kind"] == "burst"]
    between = [
        (one["streams"], float(np.median(one["tpot_s"])) - step_price(one["streams"], 48, ()))
        for one in bursts
    ]
    step_s, sequence_s = _line(between)
    alone = [one for one in phases if one["kind"] == "alone"]
    way_in = [
        (one["prompt"], float(np.median(one["ttft_s"])) - step_price(0, 0, [(one["prompt"], 0)]))
        for one in alone
    ]
    request_s, token_s = _line(way_in)
    known = [*alone, *bursts]
    work = np.array(
        [
            [one["requests"], one["requests"] * one["prompt"], _steps(one), one["tokens"]]
            for one in known
        ]
    )
    loop = _positive(work, np.array([one["api_cpu_s"] for one in known]))
    idle = HostTimes(step_s, sequence_s, 0.0, request_s, request_s, token_s, *loop)
    return _with_busy(idle, [one for one in phases if one["kind"] == "churn"], churn)


def _steps(phase: Phase) -> float:
    """Streams of a burst go together; requests alone have their steps for themselves."""
    return float(phase["tokens"] / phase["streams"])


def _with_busy(idle: HostTimes, churns: Sequence[Phase], churn: Churn) -> HostTimes:
    """Find both times of a busy engine, by least squares.

    What a request takes makes all tokens later that follow; its way in only its own first one.
    """
    from scipy.optimize import least_squares

    wanted = np.array(
        [np.mean([np.mean(one[name]) for one in churns]) for name in ("ttft_s", "tpot_s")]
    )

    def with_it(values: npt.NDArray[np.float64]) -> HostTimes:
        busy_s, each_s = values.tolist()
        return replace(idle, busy_request_s=busy_s, engine_request_s=each_s)

    def errors(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        simulated = np.mean([churn(with_it(values), one) for one in churns], axis=0)
        return np.asarray(simulated / wanted - 1.0)

    scale = idle.request_s
    found = least_squares(
        errors, [1.5 * scale, 0.2 * scale], bounds=([0.0, 0.0], [10 * scale, 2 * scale]),
        x_scale=scale, diff_step=np.array([0.05, 0.05]),
    )  # fmt: skip
    return with_it(found.x)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope; neither below 0."""
    x = np.array([[1.0, place] for place, _ in points])
    first, slope = _positive(x, np.array([value for _, value in points]))
    return first, slope


def _positive(
    matrix: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> tuple[float, ...]:
    from scipy.optimize import nnls

    scale = np.maximum(matrix.max(axis=0), 1e-300)
    found, _ = nnls(matrix / scale, values)
    return tuple((found / scale).tolist())
