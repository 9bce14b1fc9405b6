"""What a server spends outside its steps, as functions of prompt tokens, streams and tokens.

Fitted to phases in which nothing else happens. The engine, per step::

    time per token of n streams that began together - price of a step of n = a + b n

The way in, of requests alone: time to the first token - price of the prompt = c + d tokens. The API
server's loop: CPU seconds = e requests + f prompt tokens + g steps + h output tokens. And what the
engine spends on a request that comes while it is busy: as much as makes the time per token of a
closed loop what it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass

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

Churn = Callable[["HostTimes", Phase], float]
"""TPOT in the mean of a closed loop, in the simulation."""


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
    phases: Sequence[Phase], step_price: StepPrice, churn: Churn, points: Sequence[Phase] = ()
) -> HostTimes:
    """Fit the phases.

    Args:
        phases: what was measured.
        step_price: of a step.
        churn: what the simulation makes of a closed loop.
        points: of a curve, of which the API server's CPU times count as well.
    """
    bursts = [one for one in phases if one["kind"] == "burst"]
    between = [
        (one["streams"], float(np.median(one["tpot_s"])) - step_price(one["streams"], 48, ()))
        for one in bursts
    ]
    step_s, sequence_s = line(between)
    alone = [one for one in phases if one["kind"] == "alone"]
    way_in = [
        (one["prompt"], float(np.median(one["ttft_s"])) - step_price(0, 0, [(one["prompt"], 0)]))
        for one in alone
    ]
    request_s, token_s = line(way_in)
    known = [*alone, *bursts, *points]
    work = np.array(
        [
            [one["requests"], one["requests"] * one["prompt"], _steps(one), one["tokens"]]
            for one in known
        ]
    )
    spent = np.array([one["api_cpu_s"] for one in known])
    loop = positive(work / spent[:, None], np.ones(len(spent)))  # relative errors, least squares
    idle = HostTimes(step_s, sequence_s, 0.0, request_s, token_s, *loop)
    return _with_busy(idle, [one for one in phases if one["kind"] == "churn"], churn)


def _steps(phase: Phase) -> float:
    """Streams of a burst go together; requests alone have their steps for themselves."""
    return float(phase["tokens"] / phase["streams"])


def _with_busy(idle: HostTimes, churns: Sequence[Phase], churn: Churn) -> HostTimes:
    """Find what a request takes of a busy engine by false position: TPOT is nearly linear in it."""
    wanted = float(np.mean([np.mean(one["tpot_s"]) for one in churns]))

    def off_s(seconds: float) -> float:
        """Return predicted less measured TPOT if a request takes that many seconds."""
        found = replace(idle, engine_request_s=seconds)
        return float(np.mean([churn(found, one) for one in churns])) - wanted

    low, high = 0.0, idle.request_s
    below, above = off_s(low), off_s(high)
    if below >= 0.0 or above <= 0.0:
        return replace(idle, engine_request_s=low if below >= 0.0 else high)
    for _ in range(6):
        middle = low - below * (high - low) / (above - below)
        found = off_s(middle)
        if found < 0.0:
            low, below = middle, found
        else:
            high, above = middle, found
    return replace(idle, engine_request_s=low - below * (high - low) / (above - below))


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope; neither below 0."""
    x = np.array([[1.0, place] for place, _ in points])
    first, slope = positive(x, np.array([value for _, value in points]))
    return first, slope


def positive(matrix: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Least squares with no factor below 0: one per column of ``matrix``, a row per value.

    Columns are scaled to a largest entry of 1 before, so that units do not decide what is 0.
    """
    from scipy.optimize import nnls

    scale = np.maximum(matrix.max(axis=0), 1e-300)
    found, _ = nnls(matrix / scale, values)
    return tuple((found / scale).tolist())
