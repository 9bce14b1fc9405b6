"""What a server spends outside its steps, as functions of prompt tokens, streams and tokens.

Fitted to phases in which nothing else happens. The engine, per step::

    time per token of n streams that began together - price of a step of n = a + b n

The way in, of requests alone: time to the first token - price of the prompt = c + d tokens. The API
server's loop: CPU seconds = e requests + f prompt tokens + g steps + h output tokens. And what the
engine spends on a request that comes while it is busy: as much as makes the simulation of short
requests in a closed loop last as long as they did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

PROMPTS = (16, 64, 128, 192, 256)
ALONE = 16
"""Requests of each length."""
CHURN = (240, 8)
"""Short requests, and tokens of each,"""
CHURNING = 8
"""over so many streams."""

Phase = Mapping[str, Any]
StepPrice = Callable[[int, int, Sequence[tuple[int, int]]], float]
"""Seconds of a step of so many decodes, with a mean context, and chunks."""


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Seconds."""

    step_s: float
    """Between two steps of the engine, on top of what was timed in it,"""
    sequence_s: float
    """and for each sequence."""
    engine_request_s: float
    """Of the engine, for each request that comes."""
    request_s: float
    """From the client to the scheduler and back with the first token, of a request alone,"""
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


def host_times(
    phases: Sequence[Phase], step_price: StepPrice, churn_s: Callable[[HostTimes, Phase], float]
) -> HostTimes:
    """Fit the phases.

    Args:
        phases: what was measured.
        step_price: of a step.
        churn_s: how long a phase of short requests lasts in the simulation.
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
    idle = HostTimes(step_s, sequence_s, 0.0, request_s, token_s, *loop)
    churns = [one for one in phases if one["kind"] == "churn"]
    return _with_engine_request(idle, churns, churn_s)


def _steps(phase: Phase) -> float:
    """Streams of a burst go together; requests alone have their steps for themselves."""
    return float(phase["tokens"] / phase["streams"])


def _with_engine_request(
    idle: HostTimes, churns: Sequence[Phase], churn_s: Callable[[HostTimes, Phase], float]
) -> HostTimes:
    """By false position: the time of a closed loop is nearly linear in what a request takes.

    What a request takes of the engine is taken off its way in, in which it is contained.
    """

    def with_it(seconds: float) -> HostTimes:
        rest_s = max(0.0, idle.request_s - seconds)
        return replace(idle, engine_request_s=seconds, request_s=rest_s)

    def off_s(seconds: float) -> float:
        found = with_it(seconds)
        return sum(churn_s(found, one) - float(one["lasted_s"]) for one in churns)

    low, high = 0.0, idle.request_s
    below, above = off_s(low), off_s(high)
    if below >= 0.0:
        return with_it(low)
    if above <= 0.0:
        return with_it(high)
    for _ in range(6):
        middle = low - below * (high - low) / (above - below)
        found = off_s(middle)
        if found < 0.0:
            low, below = middle, found
        else:
            high, above = middle, found
    return with_it(low - below * (high - low) / (above - below))


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
