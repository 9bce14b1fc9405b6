"""Links between replicas and a store that all of them share: each its own, and the store's.

    latency      bytes, at the pace of the slower of its own link and its part of the store's
    |------------|--------------------|
                 ^ from here on it takes its part of the store's link, in its direction

Of n transfers in one direction each has the n-th part of what the store moves, whether or not the
others can use theirs.
"""

from heapq import heappop, heappush
from math import inf
from typing import Final

from sim.engine.sequence import Sequence

READ: Final = 0
WRITE: Final = 1


class StoreJob:
    """A transfer of chunks between a replica and the store."""

    __slots__ = (
        "begun_s", "keys", "left", "link_s", "moves", "number", "over_s", "pinned", "replica",
        "sent_s", "sequence", "since_s", "store_s", "version", "way", "whole_s",
    )  # fmt: skip

    def __init__(
        self, replica: int, way: int, sequence: Sequence | None, keys: list[int], sent_s: float
    ) -> None:
        self.replica = replica
        self.way = way
        self.sequence = sequence
        self.keys = keys
        self.sent_s = sent_s
        """When the replica asked for it."""
        self.number = 0
        """In the order in which all were sent."""
        self.pinned: list[int] = []
        """Chunks that stay in the host's memory until it is over."""
        self.begun_s = inf
        self.link_s = 0.0
        """Of its bytes on the replica's own link."""
        self.store_s = 0.0
        """Of its bytes on the store's, if it is alone there."""
        self.moves = False
        """Whether its bytes are on the links."""
        self.left = 1.0
        """Share of them that was still to come at ``since_s``."""
        self.whole_s = inf
        """What all of them would take at the pace since then."""
        self.since_s = 0.0
        self.over_s = inf
        """When it moves, or when it is over, if nothing changes."""
        self.version = 0
        """How often that has changed."""


class StoreLinks:
    """All transfers under way, at most one of each replica in each direction.

    Args:
        latency_s: of a transfer, before its bytes.
    """

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self._moving: list[dict[StoreJob, None]] = [{}, {}]
        self._due: list[tuple[float, int, int, StoreJob]] = []
        """Times, those of past versions as well; at one instant as they were sent."""

    def begin(self, job: StoreJob, now_s: float) -> None:
        """A transfer begins, now."""
        job.begun_s = now_s
        self._due_at(job, now_s + self.latency_s)

    def next_s(self) -> float:
        """When something is due next; infinity: nothing."""
        due = self._due
        while due and due[0][2] != due[0][3].version:
            heappop(due)
        return due[0][0] if due else inf

    def over(self, now_s: float) -> list[StoreJob]:
        """Return those that are over by now, as they were sent; and let those move that can."""
        begin: list[StoreJob] = []
        over: list[StoreJob] = []
        while self.next_s() <= now_s:
            _, _, _, job = heappop(self._due)
            job.version += 1
            (over if job.moves else begin).append(job)
        for job in over:
            del self._moving[job.way][job]
        for job in begin:
            job.moves = True
            self._moving[job.way][job] = None
        for way in (READ, WRITE):
            if any(job.way == way for job in over) or any(job.way == way for job in begin):
                self._share(way, now_s)
        over.sort(key=_number)
        return over

    def _share(self, way: int, now_s: float) -> None:
        moving = self._moving[way]
        for job in moving:
            whole_s = max(job.link_s, job.store_s * len(moving))
            if whole_s == job.whole_s:
                continue
            if job.whole_s < inf:
                job.left -= (now_s - job.since_s) / job.whole_s
            job.since_s, job.whole_s = now_s, whole_s
            self._due_at(job, now_s + job.left * whole_s)

    def _due_at(self, job: StoreJob, time_s: float) -> None:
        job.over_s = time_s
        job.version += 1
        heappush(self._due, (time_s, job.number, job.version, job))


def _number(job: StoreJob) -> int:
    return job.number
