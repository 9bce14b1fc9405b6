"""Whether a class of one's own keeps the rules that ours keep, in one line.

    from sim.conformance import check_order, check_router, check_scheduler

    check_scheduler(MyPolicy)

Each drives the class through small random cases and raises ``ConformanceError`` for the first rule
that it breaks, with the case in words; else it returns the rules that were checked.
"""

from sim.conformance.caches import check_cache
from sim.conformance.error import ConformanceError
from sim.conformance.orders import check_order
from sim.conformance.routers import check_router
from sim.conformance.schedulers import check_scheduler

__all__ = ["ConformanceError", "check_cache", "check_order", "check_router", "check_scheduler"]
