"""What the plain routers of the tests look at, and what they draw with."""

from collections.abc import Callable, Iterator
from math import nan
from typing import Any

import numpy as np

from sim.routers.registry import ROUTERS
from sim.settings.scenario import Scenario
from workloads.requests import Requests
from workloads.streams import stream

Seq = Any
Engine = Any


class World:
    """What a router may ask for, and what it knows by itself."""

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        outstanding: list[list[Seq]],
        engines: list[Engine],
        purpose: str = "router",
    ) -> None:
        self.outstanding, self.engines = outstanding, engines
        self.numbers = range(len(engines))
        self.requests = requests
        self.rng = stream(scenario.seed, purpose)
        self.size = engines[0].block_tokens
        name = (
            scenario.router if purpose == "router" else scenario.prefill_router or scenario.router
        )
        self.name = name
        model = ROUTERS[name].settings
        given = scenario.router_settings if name == scenario.router else {}
        self.given: dict[str, Any] = (
            {} if model is None else model.model_validate(given).model_dump()
        )
        self.claimed, self.age_s = -1, nan

    def session(self, seq: Seq) -> int:
        return -1 if self.requests.session is None else int(self.requests.session[seq.row])

    def loads(self) -> list[int]:
        return [len(here) for here in self.outstanding]

    def cached(self, number: int, seq: Seq) -> int:
        """Tokens of the prompt in full blocks, one after the other."""
        engine = self.engines[number]
        known = {block.text for block in engine.blocks if block.text is not None}
        tokens = 0
        while engine.caching and tokens + engine.size <= seq.prompt:
            if tuple(seq.text[: tokens + engine.size]) not in known:
                break
            tokens += engine.size
        return tokens

    def metrics(self, number: int, now_s: float) -> tuple[int, int, float]:
        """Running, waiting and use of the cache after the last step that had ended when somebody
        last looked."""
        every_s = self.given["refresh_metrics_interval_s"]
        looked_s = now_s
        if every_s:
            count = int(now_s / every_s)
            looked_s = count * every_s if count * every_s <= now_s else (count - 1) * every_s
        self.age_s = now_s - looked_s
        shown = (0, 0, 0)
        for end_s, *state in self.engines[number].shown:
            if end_s < looked_s:
                shown = tuple(state)
        return shown[0], shown[1], shown[2] / self.engines[number].total

    def full_blocks(self, seq: Seq, size: int) -> list[tuple]:
        return [tuple(seq.text[:end]) for end in range(size, seq.prompt + 1, size)]


Choose = Callable[[Seq, float], int]


def integers(rng: np.random.Generator, below: int) -> Iterator[int]:
    own = rng.spawn(1)[0]
    while True:
        yield from own.integers(below, size=1024).tolist()


def floats(rng: np.random.Generator) -> Iterator[float]:
    own = rng.spawn(1)[0]
    while True:
        yield from own.random(1024).tolist()


def one_of(places: list[int], luck: Iterator[float]) -> int:
    return places[0] if len(places) == 1 else places[int(next(luck) * len(places))]


def fewest(world: World) -> int:
    return min(world.numbers, key=lambda n: (world.loads()[n], n))
