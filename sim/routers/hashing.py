"""Routers that hash: the same key goes to the same replica, with or without a bound on loads.

Source of rules and defaults: sgl-project/sglang, sgl-model-gateway/src/policies
(``consistent_hashing``, ``bounded_consistent_hashing`` at commit 1cfac30, ``prefix_hash`` at
065f331). Its hash function is blake3, here it is blake2b: who is neighbour to whom on the ring
differs, and nothing else.
"""

from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from sim.routers.prompts import NOBODY
from sim.routers.router import Arrival, Looks, Router, Settings, View

VIRTUAL_NODES: Final = 150
"""Places of each replica on the ring."""
Skew = Annotated[float, Field(ge=1, le=1e6)]


def place_of(key: str) -> int:
    """Return where a key lies on the ring: 64 bits."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


class Ring:
    """Every replica at ``VIRTUAL_NODES`` places of a ring."""

    def __init__(self, replicas: int) -> None:
        places = sorted(
            (place_of(f"replica {number} node {node}"), number)
            for number in range(replicas)
            for node in range(VIRTUAL_NODES)
        )
        self._places = [place for place, _ in places]
        self._numbers = [number for _, number in places]

    def first(self, key: str) -> int:
        """Return the replica at a key's place, or at the next one."""
        return next(self.clockwise(key))

    def clockwise(self, key: str) -> Iterator[int]:
        """Give the replicas from a key's place on, once around; some more than once."""
        start, count = bisect_left(self._places, place_of(key)), len(self._numbers)
        return (self._numbers[(start + step) % count] for step in range(count))


def key_of(view: View, arrival: Arrival) -> str:
    """Return what requests of one session have in common; a request without any is by itself."""
    session = view.prompts.session(arrival.request)
    return f"request {arrival.request}" if session == NOBODY else f"session {session}"


class ConsistentHashing(Router):
    """The replica at the place of the session on a hash ring; it looks at nothing that changes."""

    looks_at = Looks.NOTHING

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self._ring = Ring(len(view.numbers))

    def choose(self, arrival: Arrival) -> int:
        """Where the ring says."""
        return self._ring.first(key_of(self.view, arrival))


class BoundedSettings(Settings):
    """Settings of `bounded_consistent_hashing`."""

    max_load_skew: Skew = 1.5
    """Most requests of a replica that a session stays at, over the mean of all."""


class BoundedConsistentHashing(ConsistentHashing):
    """The same, but where that replica has too many requests the next one on the ring that has not.

    If all have too many, the first one takes it.
    """

    looks_at = Looks.LOADS
    settings = BoundedSettings

    def __init__(self, view: View, rng: np.random.Generator, given: BoundedSettings) -> None:
        super().__init__(view, rng)
        self._skew = given.max_load_skew

    def choose(self, arrival: Arrival) -> int:
        """The first on the ring that is not over the bound."""
        key, view = key_of(self.view, arrival), self.view
        counts = view.all_requests
        most = sum(counts) / len(counts) * self._skew
        fitting = (number for number in self._ring.clockwise(key) if counts[number] <= most)
        found = next(fitting, None)
        return self._ring.first(key) if found is None else found


class PrefixHashSettings(Settings):
    """Settings of `prefix_hash`."""

    prefix_token_count: Annotated[int, Field(gt=0, le=1_000_000_000)] = 256
    """First tokens of a prompt that are hashed."""
    load_factor: Skew = 1.25
    """Most requests of a replica that its prompts go to, over the mean with the one to be sent."""


class PrefixHash(Router):
    """The replica at the place of the prompt's first tokens on a hash ring; if that has too many
    requests, the one with the fewest."""

    looks_at = Looks.LOADS
    settings = PrefixHashSettings

    def __init__(self, view: View, rng: np.random.Generator, given: PrefixHashSettings) -> None:
        super().__init__(view, rng)
        self._ring = Ring(len(view.numbers))
        self._given = given

    def choose(self, arrival: Arrival) -> int:
        """Where the ring says, or the lowest count within the bound."""
        view, counts = self.view, self.view.all_requests
        first = self._ring.first(self._key(arrival))
        most = (sum(counts) + 1) / len(counts) * self._given.load_factor
        if counts[first] <= most or min(counts) > most:
            return first
        return min(view.numbers, key=counts.__getitem__)

    def _key(self, arrival: Arrival) -> str:
        """What prompts with the same first tokens have in common."""
        tokens = min(arrival.prompt_tokens, self._given.prefix_token_count)
        for stream, end in self.view.prompts.text(arrival.request):
            if end >= tokens:
                return f"stream {stream} to {tokens}"
        return f"request {arrival.request}"
