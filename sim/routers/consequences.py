"""What follows from what a router looks at: the only place that decides it."""

from dataclasses import dataclass

from sim.routers.registry import router_class
from sim.routers.router import Looks


@dataclass(frozen=True, slots=True)
class Routing:
    """How requests come to replicas."""

    dealt: bool
    """It is known beforehand which replica takes which request, so that each lives by itself."""
    parts: int
    """Into how many parts a run can be split: replicas that know nothing of each other."""
    random: bool
    """Two seeds can differ in it, whatever the workload is."""
    blind: bool
    """Replicas are sent what they are sent whatever they do, the slow ones as much as the fast."""
    claims: bool = False
    """Of each request it is told what the router took to be cached where it sent it."""


def routing(name: str, replicas: int, known: bool) -> Routing:
    """Return how a router of that name sends requests to so many replicas.

    ``known``: when each request reaches the router does not depend on what replicas do.
    """
    kind = router_class(name)
    blind = kind.looks_at == Looks.NOTHING
    dealt = known and (replicas == 1 or blind)
    several = replicas > 1
    return Routing(
        dealt, replicas if dealt else 1, kind.draws and several, blind, kind.claims and several
    )
