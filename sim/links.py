"""Transfers between replicas, and how they share links: evenly, at both ends.

A transfer that is alone takes ``source_s`` on the links of the replica that has the blocks and
``sink_s`` on those of the replica that reads them, at the same time. Of n transfers of one replica
each has the n-th part of its links, whether or not the others can use theirs.
"""

from collections import defaultdict
from dataclasses import dataclass
from math import inf


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
    sink_s: float
    left: float = 1.0
    """Share that was still to come at ``since_s``."""
    whole_s: float = inf
    """What all of it would take at the pace since then."""
    since_s: float = 0.0

    @property
    def end_s(self) -> float:
        """When it is over, if nothing else changes."""
        return self.since_s + self.left * self.whole_s

    def paced(self, whole_s: float, now_s: float) -> None:
        """Go on at another pace."""
        if whole_s != self.whole_s:
            if self.whole_s < inf:
                self.left -= (now_s - self.since_s) / self.whole_s
            self.since_s, self.whole_s = now_s, whole_s


class Links:
    """The links of all replicas."""

    def __init__(self) -> None:
        self._sent: defaultdict[int, dict[Transfer, None]] = defaultdict(dict)
        self._read: defaultdict[int, dict[Transfer, None]] = defaultdict(dict)
        self._all: dict[Transfer, None] = {}

    def begin(self, transfer: Transfer, now_s: float) -> None:
        """A transfer takes its share of the links from now on."""
        self._all[transfer] = None
        self._sent[transfer.source][transfer] = None
        self._read[transfer.sink][transfer] = None
        self._share(transfer, now_s)

    def ended(self, now_s: float) -> list[Transfer]:
        """Take out those that are over by now, in the order in which they began."""
        over = sorted(
            (each for each in self._all if each.end_s <= now_s), key=lambda each: each.number
        )
        for transfer in over:
            del self._all[transfer]
            del self._sent[transfer.source][transfer]
            del self._read[transfer.sink][transfer]
        for transfer in over:
            self._share(transfer, now_s)
        return over

    def next_end_s(self) -> float:
        """When the next one is over; infinity without any."""
        return min((each.end_s for each in self._all), default=inf)

    def _share(self, changed: Transfer, now_s: float) -> None:
        """Share out the links of the two replicas of a transfer that came or went."""
        sent, read = self._sent[changed.source], self._read[changed.sink]
        for transfer in {**sent, **read}:
            senders = len(self._sent[transfer.source])
            readers = len(self._read[transfer.sink])
            transfer.paced(max(transfer.source_s * senders, transfer.sink_s * readers), now_s)
