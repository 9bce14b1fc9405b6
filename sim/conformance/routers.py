"""``check_router``: whether a router keeps the rules, and is honest about what it looks at."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from model.dataclass import dataclass
from sim.conformance.error import ConformanceError, in_case
from sim.conformance.schedulers import ALIKE, BLIND, CASES
from sim.engine.sequence import Sequence
from sim.routers.prompts import Prompts
from sim.routers.registry import made_of
from sim.routers.router import VIEWS, CachesView, Looks, ReplicaFacts, Router, TokensView
from workloads.requests import Prefixes

RANGE = "chooses one of the replicas"
HONEST = "looks at no more than it says"
CLAIMS = "claims no more than the prompt"
DEALT = "dealt beforehand as one by one"
DRAWS = "draws only if it says so"

REQUESTS = 60
BLOCK = 16


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a router is put through."""

    number: int
    replicas: int
    seed: int = 0
    """Of the router's random numbers."""
    answers: int = 0
    """Another one: answers of other lengths, which nobody knows yet."""
    ends: int = 0
    """Another one: requests leave at other times."""
    growth: int = 0
    """Another one: answers grow at another pace."""
    caches: int = 0
    """Another one: replicas have other blocks, and their metrics are others."""

    def __str__(self) -> str:
        return f"traffic {self.number}: {self.replicas} replicas"


class _Live:
    """A replica: its requests are prompts that grow."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}

    def outstanding_tokens(self) -> int:
        """Return the tokens of all requests here."""
        return sum(self.requests.values())

    def unsettled(self) -> bool:
        """Tell whether a step is under way that ``outstanding_tokens`` does not count: never."""
        return False


class _Seen:
    """What replicas have cached of a prompt, and their metrics: by chance, for each prompt anew."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self.running: list[int] = []
        self.waiting: list[int] = []
        self.kv_use: list[float] = []
        self.read(0.0)

    def cached_tokens(self, text: list[tuple[int, int]], tokens: int) -> list[int]:
        """Return how many of a prompt's tokens each replica has, whole blocks."""
        luck = Random(f"{self._traffic.number} caches {self._traffic.caches} {text} {tokens}")
        most = max((end for _, end in text), default=0)
        return [
            min(luck.randint(0, tokens), most) // BLOCK * BLOCK
            for _ in range(self._traffic.replicas)
        ]

    def tokens_on(self, number: int, text: list[tuple[int, int]], tokens: int) -> int:
        """Return the same of one replica."""
        return self.cached_tokens(text, tokens)[number]

    def read(self, now_s: float) -> None:
        """Draw the metrics that a router collects at ``now_s``."""
        luck = Random(f"{self._traffic.number} metrics {self._traffic.caches} {now_s}")
        numbers = range(self._traffic.replicas)
        self.running = [luck.randint(0, 8) for _ in numbers]
        self.waiting = [luck.randint(0, 3) for _ in numbers]
        self.kv_use = [luck.random() for _ in numbers]

    def age_s(self, now_s: float) -> float:
        """Return how old the metrics are, seconds."""
        return 0.0


def check_router(
    router: type[Router], settings: Mapping[str, Any] | None = None, cases: int = CASES
) -> tuple[str, ...]:
    """Check a router with random traffic, on 2 to 9 replicas of two kinds.

    Args:
        router: a subclass of ``Router``.
        settings: of its own, as in ``cluster.router_settings``.
        cases: how many.

    Returns:
        The rules that were checked.

    Raises:
        ConformanceError: it breaks one.
    """
    own = settings or {}
    if not isinstance(getattr(router, "looks_at", None), Looks):
        raise ConformanceError(
            HONEST, "no looks_at, expected Looks.NOTHING, LOADS, TOKENS or CACHES"
        )
    for number in range(cases):
        traffic = Traffic(number, 2 + number % 8)
        with in_case(traffic):
            _check(router, own, traffic)
    rules = (RANGE, ALIKE, BLIND, HONEST, CLAIMS, DRAWS)
    return (*rules, DEALT) if router.looks_at == Looks.NOTHING else rules


def _check(router: type[Router], own: Mapping[str, Any], traffic: Traffic) -> None:
    chosen = _choices(router, own, traffic)
    looks = router.looks_at
    changes = [(ALIKE, "another time", traffic)]
    changes.append((BLIND, "with answers of other lengths", replace(traffic, answers=1)))
    if looks < Looks.CACHES:
        told = "where replicas have other blocks"
        changes.append((HONEST, told, replace(traffic, caches=1)))
    if looks < Looks.TOKENS:
        told = "where answers grow at another pace"
        changes.append((HONEST, told, replace(traffic, growth=1)))
    if looks < Looks.LOADS:
        changes.append((HONEST, "where requests leave at other times", replace(traffic, ends=1)))
    if not router.draws:
        changes.append((DRAWS, "with another seed", replace(traffic, seed=1)))
    for rule, which, other in changes:
        _same(rule, chosen, _choices(router, own, other), which)
    if looks == Looks.NOTHING:
        made = _made(router, own, traffic)
        dealt = made.deal(iter(_arrivals(traffic)))
        _same(DEALT, chosen, [next(dealt) for _ in chosen], "dealt beforehand")


def _choices(router: type[Router], own: Mapping[str, Any], traffic: Traffic) -> list[int]:
    """Send everybody, and let requests leave in between; return who went where."""
    made = _made(router, own, traffic)
    view, live = made.view, [_Live() for _ in range(traffic.replicas)]
    if isinstance(view, TokensView):
        view.live = list(live)
    if isinstance(view, CachesView):
        view.caches = seen = _Seen(traffic)
        view.collected = None if made.refresh_metrics_interval_s is None else seen
    ends, growth = (
        Random(f"{traffic.number} {what} {which}")
        for what, which in (("ends", traffic.ends), ("growth", traffic.growth))
    )
    homes: dict[Sequence, int] = {}
    chosen: list[int] = []
    for arrival in _arrivals(traffic):
        for leaving in [each for each in homes if ends.random() < 0.2]:
            number = homes.pop(leaving)
            del live[number].requests[leaving.request]
            view.left(number, 1)
            made.left(number, 1)
            if made.follows:
                made.gone(number, [leaving])
        for replica in live:
            for request in replica.requests:
                replica.requests[request] += growth.randint(0, 9)
        number = _chosen(made, arrival)
        chosen.append(number)
        homes[arrival] = number
        live[number].requests[arrival.request] = arrival.prompt_tokens
        view.sent(number)
        made.sent(number)
    return chosen


def _chosen(router: Router, arrival: Sequence) -> int:
    try:
        number = router.choose(arrival)
    except TypeError as error:
        if "expected Looks." in str(error):
            raise ConformanceError(HONEST, str(error)) from None
        raise
    numbers = router.view.numbers
    if not isinstance(number, int) or isinstance(number, bool) or number not in numbers:
        raise ConformanceError(RANGE, f"it chose {number!r}, expected 0 to {len(numbers) - 1}")
    if router.claims and not 0 <= router.claimed_tokens <= arrival.prompt_tokens:
        raise ConformanceError(
            CLAIMS,
            f"it claims {router.claimed_tokens} cached tokens of a prompt of "
            f"{arrival.prompt_tokens}",
        )
    return number


def _made(router: type[Router], own: Mapping[str, Any], traffic: Traffic) -> Router:
    facts = tuple(
        ReplicaFacts("", ("h100-sxm", "l40s")[number % 2], 1, 8, 10_000, 2_000)
        for number in range(traffic.replicas)
    )
    rng = np.random.default_rng([traffic.number, traffic.seed])
    made = made_of(router, VIEWS[router.looks_at](facts), rng, own)
    made.view.prompts = _prompts(traffic)
    return made


def _prompts(traffic: Traffic) -> Prompts:
    """Requests of some sessions, whose prompts begin alike; some stand alone."""
    luck = Random(f"{traffic.number} prompts")
    sessions = [luck.randint(0, 9) for _ in range(REQUESTS)]
    tokens = np.array([each.prompt_tokens for each in _arrivals(traffic)])
    shared = np.minimum(tokens, luck.randint(1, 100))
    prefixes = Prefixes(
        np.arange(REQUESTS + 1, dtype=np.int64) * 2,
        np.array([[0, 1 + session] for session in sessions]).reshape(-1),
        np.stack((shared, tokens), axis=1).reshape(-1),
    )
    return Prompts(prefixes, np.array(sessions) if traffic.number % 2 else None)


def _arrivals(traffic: Traffic) -> list[Sequence]:
    luck, answers = Random(traffic.number), Random(f"{traffic.number} answers {traffic.answers}")
    return [
        Sequence(row, row / 8, luck.randint(1, 400), answers.randint(1, 400), luck.randint(0, 2))
        for row in range(REQUESTS)
    ]


def _same(rule: str, chosen: list[int], others: list[int], which: str) -> None:
    for row, (mine, other) in enumerate(zip(chosen, others, strict=True)):
        if mine != other:
            raise ConformanceError(
                rule, f"request {row} goes to replica {mine}, {which} to replica {other}"
            )
