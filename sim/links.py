"""Transfers between replicas, and how they share links: evenly, at both ends.

A block that is alone takes ``source_s`` on the links of the replica that has it and ``sink_s`` on
those of the replica that reads it, at the same time. Of n transfers of one replica each has the
n-th part of its links, whether or not the others can use theirs.

So all transfers between the same two replicas go at one pace. What is counted is therefore the
blocks that each of them has moved since the first of them began: whoever comes or goes changes a
pace for each pair of replicas, not for each transfer, of which there are thousands where links are
what limits.
"""

from collections import Counter, defaultdict
from dataclasses import field
from heapq import heappop, heappush
from math import inf

from model.dataclass import dataclass


@dataclass(slots=True, eq=False)
class Transfer:
    """Blocks on their way."""

    number: int
    """In the order in which transfers begin."""
    source: int
    """Replica that has the blocks."""
    sink: int
    """Replica that reads them."""
    source_s: float
    """For one block, if nobody shares the links of the source."""
    sink_s: float
    blocks: float
    """And what else there is, in blocks."""


@dataclass(slots=True, eq=False)
class Lane:
    """The transfers from one replica to another."""

    source_s: float
    sink_s: float
    moved: float = 0.0
    """Blocks of each that was there from the beginning on, up to ``since_s``."""
    since_s: float = 0.0
    block_s: float = inf
    """What a block takes since then."""
    under_way: list[tuple[float, int, Transfer]] = field(default_factory=list)
    """A heap: what will have been moved when it is over, its number, the transfer."""

    @property
    def end_s(self) -> float:
        """When the next one is over, if nothing else changes."""
        return self.since_s + (self.under_way[0][0] - self.moved) * self.block_s

    def paced(self, senders: int, readers: int, now_s: float) -> None:
        """Go on as one of so many."""
        block_s = max(self.source_s * senders, self.sink_s * readers)
        if block_s != self.block_s:
            self.moved += (now_s - self.since_s) / self.block_s  # nothing at the beginning
            self.since_s, self.block_s = now_s, block_s


class Links:
    """The links of all replicas."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._from: defaultdict[int, dict[int, Lane]] = defaultdict(dict)  # source, sink
        self._to: defaultdict[int, dict[int, Lane]] = defaultdict(dict)  # sink, source
        self._sent: Counter[int] = Counter()
        self._read: Counter[int] = Counter()

    def begin(self, transfer: Transfer, now_s: float) -> None:
        """A transfer takes its share of the links from now on."""
        source, sink = transfer.source, transfer.sink
        lane = self._lanes.get((source, sink))
        if lane is None:
            lane = Lane(transfer.source_s, transfer.sink_s)
            self._lanes[source, sink] = self._from[source][sink] = self._to[sink][source] = lane
        self._sent[source] += 1
        self._read[sink] += 1
        self._share(transfer, now_s)  # one more on both sides: the lane comes to now
        heappush(lane.under_way, (lane.moved + transfer.blocks, transfer.number, transfer))

    def ended(self, now_s: float) -> list[Transfer]:
        """Take out those that are over by now, in the order in which they began."""
        over: list[Transfer] = []
        for lane in self._lanes.values():
            while lane.under_way and lane.end_s <= now_s:
                over.append(heappop(lane.under_way)[2])
        over.sort(key=lambda each: each.number)
        for transfer in over:
            source, sink = transfer.source, transfer.sink
            self._sent[source] -= 1
            self._read[sink] -= 1
            if (source, sink) in self._lanes and not self._lanes[source, sink].under_way:
                del self._lanes[source, sink], self._from[source][sink], self._to[sink][source]
        for transfer in over:
            self._share(transfer, now_s)
        return over

    def next_end_s(self) -> float:
        """When the next one is over; infinity without any."""
        return min((lane.end_s for lane in self._lanes.values()), default=inf)

    def _share(self, changed: Transfer, now_s: float) -> None:
        """Share out the links of the two replicas of a transfer that came or went."""
        source, sink = changed.source, changed.sink
        for to, lane in self._from[source].items():
            lane.paced(self._sent[source], self._read[to], now_s)
        for of, lane in self._to[sink].items():
            lane.paced(self._sent[of], self._read[sink], now_s)
