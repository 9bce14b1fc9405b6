"""Requests that are dealt beforehand, as ``sim.traffic.dispatch`` would send them one by one."""

import numpy as np
import numpy.typing as npt

from sim.routers.router import Router
from sim.source import sequences
from sim.traffic.dispatch import NOBODY, nowhere
from workloads.requests import Floats, Requests


def deal(
    requests: Requests,
    reached_s: Floats,
    order: npt.NDArray[np.int64] | None,
    stop_s: float,
    router: Router,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Send all arrivals until ``stop_s`` beforehand, as ``Dispatch`` does one by one.

    Args:
        requests: an open workload.
        reached_s: when each is at the router.
        order: rows as they come there; None for the workload's own order.
        stop_s: who comes later is sent nowhere.
        router: one that looks at nothing.

    Returns:
        Of each row its replica, or ``NOBODY``, and whether it is rejected.
    """
    longest = np.array(router.view.longest_request_tokens)
    arrived = int(np.searchsorted(reached_s, stop_s, side="right", sorter=order))
    rows = np.arange(arrived) if order is None else order[:arrived]
    tokens = requests.prompt_tokens + requests.output_tokens
    fits = tokens[rows] <= longest.max()
    refused = np.zeros(len(requests), dtype=np.bool_)
    refused[rows[~fits]] = True
    rows = rows[fits]
    owner = np.full(len(requests), NOBODY, dtype=np.int32)
    owner[rows] = 0
    if len(longest) > 1:
        asking = owner.copy()
        arrivals = sequences(requests, reached_s, order, asking)
        owner[rows] = np.fromiter(router.deal(arrivals), np.int32, len(rows))
        for number in (owner[rows].min(initial=0), owner[rows].max(initial=0)):
            if not 0 <= number < len(longest):
                raise nowhere(int(number), len(longest))
        short = rows[tokens[rows] > longest[owner[rows]]]
        owner[short], refused[short] = NOBODY, True
    return owner, refused
