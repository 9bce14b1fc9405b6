"""Lets a router look at the replicas, as far as it says that it does."""

from collections.abc import Iterable, Mapping

from sim.engine.any_replica import AnyReplica
from sim.engine.rank import Rank
from sim.engine.replica import Replica
from sim.routers.router import CachesView, Router, TokensView
from sim.seen.caches import Caches
from sim.seen.metrics import Metrics


def show_replicas(router: Router, of: Mapping[int, AnyReplica], numbers: Iterable[int]) -> None:
    """Show the replicas of these numbers, in the order in which the router names them."""
    view = router.view
    if not isinstance(view, TokensView):
        return
    replicas = [of[number] for number in numbers]
    view.live = list(replicas)
    if isinstance(view, CachesView):
        loops = [each.loop for each in replicas if isinstance(each, Replica | Rank)]
        view.caches = Caches(loops, lambda number: replicas[number].steps_ended())
        if router.refresh_metrics_interval_s is not None:
            view.collected = Metrics(loops, router.refresh_metrics_interval_s)
