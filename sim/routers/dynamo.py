"""Dynamo's KV router: the lowest cost, in blocks.

Source: ai-dynamo/dynamo, commit 07a6c9c, lib/kv-router/src/scheduling/selector and
lib/kv-router/src/sequences::

    cost = prefill_load_scale * max(0, (waiting + prompt) / block - credit * cached blocks)
         + blocks in use with this prompt + decode_active_request_weight * requests

``waiting`` are prompt tokens, less cached ones, of requests that have no token yet. All of it is
the router's own count, so that nothing but the KV events comes from engines.
"""

from collections.abc import Iterable
from math import exp
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from sim.routers.draws import any_of, shares
from sim.routers.router import Arrival, Looks, Router, Settings, View
from sim.seen.active import ActiveBlocks
from sim.seen.guess import Guess
from sim.seen.scores import costs, in_blocks, lowest
from sim.seen.texts import Stretch, stretches

Factor = Annotated[float, Field(ge=0, le=1e6)]
ENDLESS: Final = 1 << 60


class DynamoSettings(Settings):
    """Settings of `dynamo`, in the words of Dynamo."""

    overlap_score_credit: Factor = 1.0
    """What a cached block of the prompt takes off the cost of its prefill, blocks."""
    prefill_load_scale: Factor = 1.0
    """What a block of prefill costs beside one in use."""
    decode_active_request_weight: Factor = 0.0
    """What a request under way costs on top, blocks."""
    router_temperature: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """0: the lowest cost, any of equal ones. Above: softmax of the costs, scaled to their range."""
    use_kv_events: bool = True
    """Whether engines tell what they have cached. Without, the router believes in what it sent
    there, for router_ttl_secs."""
    router_ttl_secs: Annotated[float, Field(gt=0, le=1e6)] = 120.0
    """For how long, seconds."""

    @property
    def reads_caches(self) -> bool:
        """See ``Settings``."""
        return self.use_kv_events


class _UnderWay:
    """A request that was sent and has not left."""

    __slots__ = ("arrival", "number", "prefill_tokens", "text")

    def __init__(self, arrival: Arrival, text: list[Stretch], prefill_tokens: int) -> None:
        self.arrival, self.text, self.prefill_tokens = arrival, text, prefill_tokens
        self.number = -1


class Dynamo(Router):
    """Dynamo's KV router: the least prefill to be done, less what is cached, and blocks in use."""

    looks_at = Looks.CACHES
    draws = True
    follows = True
    claims = True
    settings = DynamoSettings

    def __init__(self, view: View, rng: np.random.Generator, given: DynamoSettings) -> None:
        super().__init__(view, rng)
        self._luck = shares(rng)
        self._given = given
        self._weights = (
            given.prefill_load_scale, given.overlap_score_credit,
            given.decode_active_request_weight,
        )  # fmt: skip
        self._size = view.replicas[0].block_size
        self._guess = None if given.use_kv_events else Guess([ENDLESS for _ in view.numbers])
        self._active = ActiveBlocks(len(view.numbers))
        self._prefill_tokens = [0] * len(view.numbers)
        self._requests = [0] * len(view.numbers)
        self._waiting: dict[int, _UnderWay] = {}  # for a first token
        self._under_way: dict[int, _UnderWay] = {}
        self._next: _UnderWay | None = None

    def choose(self, arrival: Arrival) -> int:
        """The lowest cost."""
        self._see_first_tokens()
        tokens, size = arrival.prompt_tokens, self._size
        text = self.view.prompts.text(arrival.request)
        cut = stretches(text, tokens, size, ENDLESS)
        cached = self._cached(arrival, text, cut)
        cost = costs(
            self._prefill_tokens, self._active.count, self._requests,
            (tokens, tokens // size, size), self._active.shared(cut), cached, self._weights,
        )  # fmt: skip
        number = self._picked(cost)
        self.claimed_tokens = min(cached[number] * size, tokens)
        self._next = _UnderWay(arrival, cut, tokens - self.claimed_tokens)
        return number

    def _cached(
        self, arrival: Arrival, text: list[tuple[int, int]], cut: list[Stretch]
    ) -> list[int]:
        """First blocks of the prompt that each replica is thought to have."""
        if self._guess is None:
            found = self.view.cached.cached_tokens(text, arrival.prompt_tokens)
            return in_blocks(found, self._size)
        self._guess.forget_before(arrival.arrival_s - self._given.router_ttl_secs)
        have = [0] * len(self.view.numbers)
        for number in self._guess.homes(cut[0][0]) if cut else ():
            have[number] = self._guess.deeper(number, cut, 0)
        return have

    def _picked(self, cost: list[float]) -> int:
        temperature = self._given.router_temperature
        if not temperature:
            return any_of(lowest(cost), self._luck)
        low, high = min(cost), max(cost)
        if low == high:
            return any_of(lowest(cost), self._luck)
        scale = -1.0 / ((high - low) * temperature)
        odds = [exp((each - low) * scale) for each in cost]
        left = next(self._luck) * sum(odds)
        for number, each in enumerate(odds):
            left -= each
            if left <= 0.0:
                return number
        return len(odds) - 1

    def sent(self, number: int) -> None:
        """Its prefill waits there, and its blocks are in use, as far as they are not already."""
        sent = self._next
        assert sent is not None
        self._active.add(number, sent.text)
        self._prefill_tokens[number] += sent.prefill_tokens
        self._requests[number] += 1
        sent.number = number
        self._waiting[sent.arrival.request] = sent
        self._under_way[sent.arrival.request] = sent
        if self._guess is not None:
            self._guess.add(number, sent.text, sent.arrival.arrival_s)

    def gone(self, number: int, arrivals: Iterable[Arrival]) -> None:
        """Their blocks are not in use any more."""
        for arrival in arrivals:
            left = self._under_way.pop(arrival.request)
            self._active.remove(number, left.text)
            self._requests[number] -= 1
            if self._waiting.pop(arrival.request, None) is not None:
                self._prefill_tokens[number] -= left.prefill_tokens

    def _see_first_tokens(self) -> None:
        """Who has a first token has no prefill to wait for."""
        for each in [each for each in self._waiting.values() if each.arrival.first_token_s >= 0.0]:
            self._prefill_tokens[each.number] -= each.prefill_tokens
            del self._waiting[each.arrival.request]
