"""Transfers of blocks on the simulation's clock: posted first, then on the links."""

from collections.abc import Callable
from math import inf

from simpy.events import Event

from sim.clock import Clock
from sim.engine.agenda import TRANSFER
from sim.links import Links, Transfer
from sim.recording.handovers import Handover
from sim.settings.kv_transfer import Link

OnLoaded = Callable[[Handover, float], None]
"""Told whose transfer is over, and when."""


class Transfers:
    """All that are under way. At one instant those that are over go first, as they began."""

    def __init__(self, clock: Clock, on_loaded: OnLoaded) -> None:
        self._clock, self._on_loaded = clock, on_loaded
        self._links = Links()
        self._of: dict[Transfer, Handover] = {}
        self._begun = 0
        self._next: Event | None = None  # when one may be over
        self._next_s = inf

    def begin(self, handover: Handover, link: Link, blocks: int, now_s: float) -> None:
        """Blocks are to be read, from now on."""
        transfer = Transfer(
            self._begun, handover.source, handover.sink, link.source_s, link.sink_s,
            link.size_of(blocks),
        )  # fmt: skip
        self._begun += 1
        self._of[transfer] = handover
        posted = self._clock.at(now_s + link.posting_s(blocks), TRANSFER)
        posted.callbacks.append(lambda _: self._posted(transfer))

    def _posted(self, transfer: Transfer) -> None:
        now_s = self._clock.now
        self._end(now_s)
        self._links.begin(transfer, now_s)
        self._wait()

    def _over(self, _: Event) -> None:
        self._next, self._next_s = None, inf
        self._end(self._clock.now)
        self._wait()

    def _end(self, now_s: float) -> None:
        for transfer in self._links.ended(now_s):
            self._on_loaded(self._of.pop(transfer), now_s)

    def _wait(self) -> None:
        """Look again when the next one may be over; an early look does no harm."""
        next_s = max(self._links.next_end_s(), self._clock.now)
        if next_s >= self._next_s or next_s == inf:
            return
        if self._next is not None:
            self._clock.cancel(self._next)
        self._next, self._next_s = self._clock.at(next_s, TRANSFER), next_s
        self._next.callbacks.append(self._over)
