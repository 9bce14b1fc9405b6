"""Whether a router sends most requests to one of many replicas that are alike."""

from collections.abc import Sequence
from math import sqrt

MANY = 2.0
"""Times as many as if all had equally many."""
MOST = 0.9
"""Share of one of two replicas that is told."""
DEVIATIONS = 4.0
"""Beyond what requests dealt at random would do."""


def spread_notes(
    shares: Sequence[float], requests: Sequence[float], replicas: int
) -> list[str]:  # fmt: skip
    """Say if a replica was sent far more requests than others.

    Args:
        shares: of the requests of each run, that of the replica which was sent most; NaN: unknown.
        requests: of each run.
        replicas: that are alike, among which one router chooses.
    """
    if replicas < 2 or not shares:
        return []
    known = [
        share
        for share, count in zip(shares, requests, strict=True)
        if (share - 1 / replicas) * count > DEVIATIONS * sqrt(count / replicas)
    ]
    mean = sum(known) / len(shares)
    if mean < min(MANY / replicas, MOST):
        return []
    return [
        f"one of {replicas} replicas was sent {100 * mean:.0f}% of the requests: what the router "
        "looks at keeps them there, see request_share_max"
    ]
