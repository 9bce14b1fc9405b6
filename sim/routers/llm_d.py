"""llm-d's router: scorers with weights, and a picker.

Source: llm-d/llm-d-inference-scheduler (llm-d-router), commit 520af47, pkg/epp: each scorer gives
every replica a number from 0 to 1, these are added up with weights, and the picker takes one.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from model.errors import one_of
from sim.routers.draws import shares
from sim.routers.pickers import PICKERS
from sim.routers.router import Arrival, Looks, Router, View
from sim.routers.scorers import SCORERS, Scorer, ScorerSettings


def _known(name: str) -> str:
    if name not in SCORERS:
        raise ValueError(one_of(name, tuple(SCORERS)))
    return name


def _some(scorers: dict[str, float]) -> dict[str, float]:
    if not scorers:
        raise ValueError("expected at least one scorer with its weight")
    return scorers


Weight = Annotated[float, Field(ge=0, le=1e6)]


class LlmDSettings(ScorerSettings):
    """Settings of `llm_d`, in the words of llm-d."""

    scorers: Annotated[
        dict[Annotated[str, AfterValidator(_known)], Weight], AfterValidator(_some)
    ] = Field(default={"queue": 2.0, "kv_cache_utilization": 2.0, "prefix_cache": 3.0})
    """Scorers and their weights; scores are added in this order. There are queue,
    kv_cache_utilization, running_requests_size, load_aware, active_request, token_load,
    prefix_cache, precise_prefix_cache and session_affinity: docs/routing.md."""
    picker: Literal["max_score", "random", "weighted_random"] = "max_score"
    """max_score: the highest sum, any of equal ones. weighted_random: each in proportion to its
    sum. random: any."""
    refresh_metrics_interval_s: Annotated[float, Field(ge=0, le=3600)] = 0.05
    """How often metrics of the engines are collected, seconds: what queue, kv_cache_utilization,
    running_requests_size and load_aware look at is as old as that. 0: never old."""

    @property
    def reads_caches(self) -> bool:
        """See ``Settings``."""
        return "precise_prefix_cache" in self.scorers


class LlmD(Router):
    """llm-d's scorers with weights: queues, use of the KV cache, and what of a prompt is cached.

    What is scored is set by ``scorers``; metrics of engines are as old as
    ``refresh_metrics_interval_s``, counts of its own are never old.
    """

    looks_at = Looks.CACHES
    draws = True
    follows = True
    claims = True
    settings = LlmDSettings

    def __init__(self, view: View, rng: np.random.Generator, given: LlmDSettings) -> None:
        super().__init__(view, rng)
        self._luck = shares(rng)
        self._pick = PICKERS[given.picker]
        self._scorers: list[tuple[Scorer, float]] = [
            (SCORERS[name](view, given), weight) for name, weight in given.scorers.items()
        ]
        if any(scorer.collects for scorer, _ in self._scorers):
            self.refresh_metrics_interval_s = given.refresh_metrics_interval_s
        self._arrival: Arrival | None = None

    def choose(self, arrival: Arrival) -> int:
        """What the picker takes."""
        scores = [0.0] * len(self.view.numbers)
        if self.refresh_metrics_interval_s is not None:
            self.view.metrics.read(arrival.arrival_s)
            self.metrics_age_s = self.view.metrics.age_s(arrival.arrival_s)
        for scorer, weight in self._scorers:
            scorer.add(scores, weight, arrival)
        number = self._pick(scores, self._luck)
        self.claimed_tokens = max(scorer.claimed_tokens(number) for scorer, _ in self._scorers)
        self._arrival = arrival
        return number

    def sent(self, number: int) -> None:
        """Let every scorer that keeps something of its own know."""
        assert self._arrival is not None
        for scorer, _ in self._scorers:
            scorer.sent(number, self._arrival)

    def gone(self, number: int, arrivals: Iterable[Arrival]) -> None:
        """Let every scorer that counts know."""
        for scorer, _ in self._scorers:
            scorer.gone(number, arrivals)
