"""Which turns of the sessions of a workload follow which."""

from array import array

import numpy as np

from sim.traffic.following import Chains, Following, Graphs
from workloads.requests import Requests


def following_of(requests: Requests) -> Following:
    """Return what tells which rows come after one."""
    if requests.turn is None or requests.session is None:
        return Following()
    after = requests.after
    if after is None:
        return Chains(requests.turn.data)
    counts = np.diff(after.offsets).astype(np.int64)
    behind = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    order = np.argsort(after.rows, kind="stable")
    starts = np.searchsorted(after.rows[order], np.arange(len(counts) + 1)).astype(np.int64)
    missing = array("q", counts.tobytes())
    return Graphs(starts.data, behind[order].data, missing, requests.session.data)
