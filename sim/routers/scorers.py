"""Scorers of llm-d: what each gives a replica, from 0 to 1. A class and a row each."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from pydantic import Field

from sim.routers.prompts import NOBODY
from sim.routers.router import Arrival, Settings, View
from sim.seen import scores as formulas
from sim.seen.guess import Guess
from sim.seen.texts import blocks, stretches, with_rest

Blocks = Annotated[int, Field(gt=0, le=100_000_000)]
ENDLESS: Final = 1 << 60
CHARACTERS: Final = 4
"""Of a token, as llm-d assumes."""


class PrefixCacheSettings(Settings):
    """What llm-d's approximate index of prompts keeps."""

    auto_tune: bool = True
    """Block size and capacity are those of the engines, in place of the two keys below."""
    block_size_tokens: Annotated[int, Field(gt=0, le=65536)] = 16
    """Tokens of a block."""
    lru_capacity_per_server: Blocks = 31_250
    """Most blocks that are believed of a replica; those sent longest ago are forgotten."""
    max_prefix_blocks_to_match: Blocks = 256
    """So many blocks of a prompt are looked at, and kept; longer ones look alike behind them."""
    max_prefix_tokens_to_match: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """The same in tokens, in its place unless 0."""
    characters_per_token: Annotated[float, Field(ge=0.1, le=1000)] = 4.0
    """Of the traffic's texts. llm-d cuts texts, into blocks of 4 characters for each token of
    theirs; with 6 a block of 16 holds 11 tokens, and the index less of a prompt."""


class PrecisePrefixCacheSettings(Settings):
    """How llm-d's index of the engines' KV events is used."""

    speculative_indexing: bool = False
    """Blocks of a prompt count as cached as soon as it is sent, before the engine has them."""
    speculative_ttl_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """For so long, seconds."""


class ActiveRequestSettings(Settings):
    """Who is idle."""

    idle_threshold: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Up to so many requests a replica is, and scores 1."""
    max_busy_score: Annotated[float, Field(ge=0, le=1)] = 1.0
    """What a busy one without any has at most."""


class ScorerSettings(Settings):
    """Of scorers that have any."""

    prefix_cache: PrefixCacheSettings = PrefixCacheSettings()
    precise_prefix_cache: PrecisePrefixCacheSettings = PrecisePrefixCacheSettings()
    active_request: ActiveRequestSettings = ActiveRequestSettings()
    queue_threshold_tokens: Annotated[int, Field(gt=0, le=1_000_000_000)] = 4_194_304
    """Of token_load: tokens in flight from which on a replica scores 0."""
    load_aware_threshold: Annotated[float, Field(gt=0, le=1_000_000)] = 128.0
    """Of load_aware: waiting requests from which on a replica scores 0."""


class Scorer:
    """Scores replicas; a subclass adds its scores, and keeps what it needs."""

    collects: ClassVar[bool] = False
    """Whether it looks at metrics of engines."""

    def __init__(self, view: View, given: ScorerSettings) -> None:
        self.view = view

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """Add this scorer's scores, times its weight."""
        raise NotImplementedError

    def claimed_tokens(self, number: int) -> int:
        """What it took to be cached on a replica at the last choice, tokens."""
        return 0

    def sent(self, number: int, arrival: Arrival) -> None:
        """That request was sent to a replica."""

    def gone(self, number: int, arrivals: Iterable[Arrival]) -> None:
        """These have left it."""


class Queue(Scorer):
    """Few waiting requests: ``(max - n) / (max - min)``, 1 if all are equal (metrics)."""

    collects = True

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``queue-scorer``."""
        formulas.add_fewest(scores, weight, self.view.metrics.waiting)


class KvCacheUtilization(Scorer):
    """A KV cache that is little used: ``1 - use`` (metrics)."""

    collects = True

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``kv-cache-utilization-scorer``."""
        formulas.add_free(scores, weight, self.view.metrics.kv_use)


class RunningRequestsSize(Scorer):
    """Few running requests, as queue (metrics)."""

    collects = True

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``running-requests-size-scorer``."""
        formulas.add_fewest(scores, weight, self.view.metrics.running)


class LoadAware(Scorer):
    """Few waiting requests: ``0.5 (1 - n / threshold)`` (metrics)."""

    collects = True

    def __init__(self, view: View, given: ScorerSettings) -> None:
        super().__init__(view, given)
        self._most = given.load_aware_threshold

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``load-aware-scorer``."""
        formulas.add_half(scores, weight, self.view.metrics.waiting, self._most)


class ActiveRequest(Scorer):
    """Few requests that were sent and have not left: the router's own count."""

    def __init__(self, view: View, given: ScorerSettings) -> None:
        super().__init__(view, given)
        self._given = given.active_request

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``active-request-scorer``."""
        idle, busy = self._given.idle_threshold, self._given.max_busy_score
        formulas.add_idle(scores, weight, self.view.all_requests, idle, busy)


OUTPUT_RATIO: Final = 1.5
"""Tokens of an answer for each of its prompt, as llm-d estimates them."""


class TokenLoad(Scorer):
    """Few tokens in flight: prompts, and estimates of answers; the router's own count."""

    def __init__(self, view: View, given: ScorerSettings) -> None:
        super().__init__(view, given)
        self._most = float(given.queue_threshold_tokens)
        self._tokens = [0] * len(view.numbers)

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``token-load-scorer``."""
        formulas.add_below(scores, weight, self._tokens, self._most)

    def sent(self, number: int, arrival: Arrival) -> None:
        """Its tokens are in flight."""
        self._tokens[number] += _tokens(arrival)

    def gone(self, number: int, arrivals: Iterable[Arrival]) -> None:
        """No longer."""
        self._tokens[number] -= sum(map(_tokens, arrivals))


def _tokens(arrival: Arrival) -> int:
    return arrival.prompt_tokens + round(arrival.prompt_tokens * OUTPUT_RATIO)


class PrefixCache(Scorer):
    """Share of the prompt that the router believes to be cached: of what it sent there."""

    def __init__(self, view: View, given: ScorerSettings) -> None:
        super().__init__(view, given)
        own, first = given.prefix_cache, view.replicas[0]
        size = first.block_size if own.auto_tune else own.block_size_tokens
        self._most = own.max_prefix_blocks_to_match
        if own.max_prefix_tokens_to_match:
            self._most = own.max_prefix_tokens_to_match // size
        self._size = max(1, round(size * CHARACTERS / own.characters_per_token))
        self._guess = Guess(
            [
                facts.kv_tokens // facts.block_size
                if own.auto_tune
                else own.lru_capacity_per_server
                for facts in view.replicas
            ]
        )
        self._text: list[tuple[int, int, int]] = []
        self._found: list[int] = []
        self._tokens = 0

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``prefix-cache-scorer`` with ``approx-prefix-cache-producer``."""
        text, tokens = self.view.prompts.text(arrival.request), arrival.prompt_tokens
        self._tokens = tokens
        cut = stretches(text, tokens, self._size, self._most)
        self._text = with_rest(cut, text, tokens, self._size, self._most)
        self._found = self._guess.matches(self._text)
        formulas.add_share(scores, weight, self._found, blocks(self._text))

    def claimed_tokens(self, number: int) -> int:
        """Of the blocks that match; the last one need not be full."""
        return min(self._found[number] * self._size, self._tokens)

    def sent(self, number: int, arrival: Arrival) -> None:
        """It is believed to be there from now on, though it is not yet computed."""
        self._guess.add(number, self._text, arrival.arrival_s)


class PrecisePrefixCache(Scorer):
    """Share of the prompt that is cached, as engines tell by KV events."""

    def __init__(self, view: View, given: ScorerSettings) -> None:
        super().__init__(view, given)
        self._size = view.replicas[0].block_size
        own = given.precise_prefix_cache
        self._ttl_s = own.speculative_ttl_s
        self._sent = Guess([ENDLESS for _ in view.numbers]) if own.speculative_indexing else None
        self._text: list[tuple[int, int, int]] = []
        self._found: list[int] = []

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``precise-prefix-cache-scorer``: full blocks from the first one on."""
        text, tokens = self.view.prompts.text(arrival.request), arrival.prompt_tokens
        self._found = self.view.cached.cached_tokens(text, tokens)
        if self._sent is not None:
            self._text = stretches(text, tokens, self._size, ENDLESS)
            self._sent.forget_before(arrival.arrival_s - self._ttl_s)
            self._look_ahead(self._sent)
        whole = tokens // self._size * self._size
        formulas.add_share(scores, weight, self._found, whole)

    def _look_ahead(self, sent: Guess) -> None:
        """Go on from what is cached with what was sent a moment ago."""
        for stream, _, _ in self._text:
            for number in sent.homes(stream):
                have = sent.deeper(number, self._text, self._found[number] // self._size)
                self._found[number] = max(self._found[number], have * self._size)

    def claimed_tokens(self, number: int) -> int:
        """What was found."""
        return self._found[number]

    def sent(self, number: int, arrival: Arrival) -> None:
        """With speculative indexing it counts as cached for a moment."""
        if self._sent is not None:
            self._sent.add(number, self._text, arrival.arrival_s)


class SessionAffinity(Scorer):
    """1 for the replica that had the turn before."""

    def __init__(self, view: View, given: ScorerSettings) -> None:
        super().__init__(view, given)
        self._homes: dict[int, int] = {}

    def add(self, scores: list[float], weight: float, arrival: Arrival) -> None:
        """As ``session-affinity-scorer``."""
        home = self._homes.get(self.view.prompts.session(arrival.request))
        if home is not None:
            scores[home] += weight

    def sent(self, number: int, arrival: Arrival) -> None:
        """Its session is at home there."""
        session = self.view.prompts.session(arrival.request)
        if session != NOBODY:
            self._homes[session] = number


SCORERS: Final[dict[str, type[Scorer]]] = {
    "queue": Queue,
    "kv_cache_utilization": KvCacheUtilization,
    "running_requests_size": RunningRequestsSize,
    "load_aware": LoadAware,
    "active_request": ActiveRequest,
    "token_load": TokenLoad,
    "prefix_cache": PrefixCache,
    "precise_prefix_cache": PrecisePrefixCache,
    "session_affinity": SessionAffinity,
}
