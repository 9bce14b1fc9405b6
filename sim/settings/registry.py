"""What a study can call by name: scheduling policies and queue orders, a row each.

The study's schema, the reference pages, the checks and the conformance suite read these tables. A
class of one's own is called ``MODULE:CLASS`` instead, see ``sim.plugins``.
"""

from typing import Final

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.scheduler import Scheduler
from sim.engine.settings import Settings
from sim.engine.waiting import ByPriority, FirstCome, ShortestPrompt, WaitingQueue
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.plugins import Own, check_own, class_of, is_own, try_out

POLICIES: Final[dict[str, type[Scheduler]]] = {
    "static": Static,
    "prefill_first": PrefillFirst,
    "chunked_prefill": ChunkedPrefill,
}
"""``engine.scheduler``: who computes what in the next step."""

ORDERS: Final[dict[str, type[WaitingQueue]]] = {
    "fcfs": FirstCome,
    "shortest_prompt": ShortestPrompt,
    "priority": ByPriority,
}
"""``engine.order``: who of those that wait is admitted next."""


def policy(name: str) -> type[Scheduler]:
    """Return the policy of that name, or dotted path.

    Raises:
        ValueError: an unknown name, or a class that is not to be had.
    """
    return class_of(name, POLICIES, Scheduler)


def order(name: str) -> type[WaitingQueue]:
    """Return the queue of that order, by name or dotted path.

    Raises:
        ValueError: an unknown name, or a class that is not to be had.
    """
    return class_of(name, ORDERS, WaitingQueue)


def check_policy(name: str, own: Own) -> None:
    """Check that a policy can be made with settings of its own. Raises ValueError."""
    check_own(name, own, policy(name), parts=3)
    if is_own(name):
        try_out(policy(name), own, BlockPool(64, 16), FirstCome(), Settings(8, 64))


def check_order(name: str, own: Own) -> None:
    """Check that an order can be made with settings of its own. Raises ValueError."""
    check_own(name, own, order(name), parts=0)
    if is_own(name):
        try_out(order(name), own)
