"""The routers by the names that studies use, a row each; one of one's own by its dotted path."""

from typing import Annotated, Final

import numpy as np

from sim.named import named
from sim.plugins import NONE, Own, built, check_own, class_of, is_own, try_out
from sim.routers.blind import Random, RoundRobin
from sim.routers.loads import LeastRequests, PowerOfTwoChoices
from sim.routers.router import VIEWS, Looks, ReplicaFacts, Router, View
from sim.routers.tokens import LeastTokens

ROUTERS: Final[dict[str, type[Router]]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_requests": LeastRequests,
    "least_tokens": LeastTokens,
    "power_of_two_choices": PowerOfTwoChoices,
}


def router_class(name: str) -> type[Router]:
    """Return the router of a name, or dotted path.

    Raises:
        ValueError: there is none, with the nearest; or a class that is not to be had.
    """
    return class_of(name, ROUTERS, Router)


def check_router(name: str, own: Own) -> None:
    """Check that a router can be made with settings of its own. Raises ValueError."""
    kind = router_class(name)
    check_own(name, own, kind, parts=2)
    if is_own(name):
        if not isinstance(getattr(kind, "looks_at", None), Looks):
            raise ValueError(
                f"{name} says nothing of what it looks at, expected "
                "looks_at = Looks.NOTHING, LOADS or TOKENS"
            )
        facts = ReplicaFacts("", "", 1, 8, 1024, 1024)
        try_out(kind, own, VIEWS[kind.looks_at]((facts, facts)), np.random.default_rng(0))


def make_router(
    name: str, replicas: tuple[ReplicaFacts, ...], rng: np.random.Generator, own: Own = NONE
) -> Router:
    """Return a router over these replicas, with a view of as much as it looks at.

    ``own`` are settings of a router of one's own.

    Raises:
        ValueError: the name is unknown.
    """
    if len(replicas) == 1:  # no choice
        return RoundRobin(View(replicas), rng)
    kind = router_class(name)
    return built(kind, own, VIEWS[kind.looks_at](replicas), rng)


RouterName = Annotated[str, *named(router_class, ROUTERS)]
