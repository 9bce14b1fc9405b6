"""The routers by the names that studies use."""

from typing import Literal

import numpy as np

from model.errors import one_of
from sim.routers.blind import Random, RoundRobin
from sim.routers.loads import LeastRequests, PowerOfTwoChoices
from sim.routers.router import VIEWS, ReplicaFacts, Router
from sim.routers.tokens import LeastTokens

RouterName = Literal[
    "round_robin", "random", "least_requests", "least_tokens", "power_of_two_choices"
]
ROUTERS: dict[str, type[Router]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_requests": LeastRequests,
    "least_tokens": LeastTokens,
    "power_of_two_choices": PowerOfTwoChoices,
}


def router_class(name: str) -> type[Router]:
    """Return the router of a name.

    Raises:
        ValueError: there is none; names the nearest.
    """
    if name not in ROUTERS:
        raise ValueError(f"router = {name!r}: {one_of(name, tuple(ROUTERS))}")
    return ROUTERS[name]


def make_router(name: str, replicas: tuple[ReplicaFacts, ...], rng: np.random.Generator) -> Router:
    """Return a router over these replicas, with a view of as much as it looks at.

    Raises:
        ValueError: the name is unknown.
    """
    kind = router_class(name) if len(replicas) > 1 else RoundRobin  # one replica: no choice
    return kind(VIEWS[kind.looks_at](replicas), rng)
