"""What follows from what a router looks at: the only place that decides it."""

from collections.abc import Sequence

from model.dataclass import dataclass
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


def handing_over(routers: tuple[str, str], replicas: Sequence[int]) -> Routing:
    """Return how requests come to replicas of which some compute prompts for others.

    Args:
        routers: who chooses among those that answer, and among those that prefill.
        replicas: how many these are.
    """
    kinds = [router_class(name) for name in routers]
    random = any(kind.draws and count > 1 for kind, count in zip(kinds, replicas, strict=True))
    blind = all(kind.looks_at == Looks.NOTHING for kind in kinds)
    return Routing(dealt=False, parts=1, random=random, blind=blind)
