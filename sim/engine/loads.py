"""Requests that hold KV blocks while nothing of them is computed: vLLM's WAITING_FOR_REMOTE_KVS.

A KV connector brings a cache from elsewhere, or lets others read what was computed here::

    waits --- blocks taken, LOADING --- told: READY --- seat and budget: runs
    ended --- KEPT, its blocks leased --- told that they were read: gone

Whoever loads holds blocks for all that is loaded, outside of seats and of the token budget, and is
never thrown out. The engine is told between two steps, and serves who is ready before it looks at
its queue. What was loaded can be found by others only then.
"""

from math import inf
from typing import Final

from mypy_extensions import mypyc_attr

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.sequence import Batch, Sequence

HERE: Final = 0
LOADING: Final = 1
READY: Final = 2
CANCELLED: Final = 3
"""Given up while it loads: its blocks are free when that is over."""
KEPT: Final = 4

ASK_AGAIN: Final = -1
"""Instead of tokens: not known yet. Whoever is behind in the queue passes by meanwhile."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Connector:
    """What a scheduler asks of a KV connector; this one brings nothing and keeps nothing."""

    def matched(self, sequence: Sequence, past: int) -> int:
        """How many tokens behind the first ``past``, which are here, can be loaded; 0: none; or
        ``ASK_AGAIN``. Asked in every step in which the request is next in line."""
        return 0

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """Its blocks are taken, now: bring the tokens behind ``past``, then let it be told."""

    def keeps(self, sequence: Sequence) -> bool:
        """Whether the blocks of one that leaves are to stay, until told that they were read."""
        return False

    def dropped(self, sequence: Sequence) -> None:
        """One was given up before it loaded anything."""

    def gone(self, sequence: Sequence) -> None:
        """One has ended or was given up, whatever it has loaded."""

    def planned(self, batch: Batch, running: dict[Sequence, None], step: int) -> bool:
        """A step was planned, after so many decode steps; say whether the next one has to be
        planned for itself, even if it is like this one."""
        return False

    def changed(self) -> bool:
        """Whether the last plan changed what it keeps, and with it what the next one finds."""
        return False

    def come(self, now_s: float) -> list[Sequence]:
        """Who is to be told by now, between two steps; what ``planned`` began goes on from here."""
        return []

    def learns(self) -> bool:
        """What has come is known to the plans that follow; say whether that is anything new."""
        return False

    def looks_elsewhere(self) -> bool:
        """Whether others change what it finds: then whoever waits is looked for in every step."""
        return False

    def goes_on(self) -> bool:
        """Whether an engine plans for its sake, when nobody is left."""
        return False

    def idles(self) -> None:
        """Nothing is computed, though somebody waits."""

    def next_s(self) -> float:
        """When somebody is to be told next, later than it was last asked; infinity: unknown."""
        return inf


class Loads:
    """Those who hold blocks of a pool that way.

    Args:
        pool: whose blocks they hold.
        connector: what brings their caches, and reads them.
    """

    def __init__(self, pool: BlockPool, connector: Connector) -> None:
        self.pool = pool
        self.connector = connector
        self.parked: dict[Sequence, None] = {}
        """Whoever loads or is ready, in order of admission."""
        self.ready = 0
        """How many of them are ready."""
        self.kept: dict[Sequence, None] = {}
        """Whose blocks are to be read."""
        self.told: list[Sequence] = []
        """Whose blocks were filled or read, since the engine last learned of it."""
        self.now_s = 0.0
        """When the batch is formed."""
        self.stuck = False
        """Whether there was no room for the next in line."""
        self._seen = False  # whether the connector has seen the step being planned

    def park(self, sequence: Sequence, past: int, tokens: int) -> None:
        """One that was just looked for in the pool takes its blocks and loads."""
        sequence.transit = LOADING
        sequence.kv_tokens = past
        sequence.loaded_tokens = past + tokens
        sequence.loading_s -= self.now_s
        self.pool.hold(sequence, past + tokens)
        self.parked[sequence] = None
        self.connector.load(sequence, past, tokens, self.now_s)

    def plans(self) -> None:
        """A step is about to be planned."""
        self._seen = False

    def saw(self, batch: Batch, running: dict[Sequence, None], step: int) -> None:
        """It was planned, or, where nobody was left in it, tried."""
        if self._seen:
            return
        self.pool.planned()
        if self.connector.planned(batch, running, step):
            batch.steps = 1
        self._seen = True

    def in_turn(self, by_priority: bool) -> list[Sequence]:
        """Who is ready, in the order in which they are served."""
        ready = [each for each in self.parked if each.transit == READY]
        if by_priority:
            ranks = [(each.priority, each.arrival_s, each.request, each) for each in ready]
            ready = [rank[3] for rank in sorted(ranks, key=lambda rank: rank[:3])]
        return ready

    def leave(self, sequence: Sequence) -> None:
        """One that is ready runs."""
        del self.parked[sequence]
        self.ready -= 1
        sequence.transit = HERE

    def cancel(self, sequence: Sequence, step: int) -> None:
        """Nobody wants a parked one any more: its blocks are free when nobody writes to them."""
        if sequence.transit == READY:
            self.ready -= 1
            self._free(sequence, step)
        else:
            sequence.transit = CANCELLED

    def let_go(self, sequences: list[Sequence], step: int) -> list[Sequence]:
        """Sequences leave: return those whose blocks are free at once."""
        free: list[Sequence] = []
        for sequence in sequences:
            if self.connector.keeps(sequence):
                self.pool.stay(sequence, step)
                sequence.transit = KEPT
                self.kept[sequence] = None
            else:
                free.append(sequence)
        return free

    def learn(self, step: int) -> None:
        """Learn what was told, between two steps."""
        for sequence in self.told:
            if sequence.transit == LOADING:
                sequence.loading_s += self.now_s
                sequence.transit = READY
                self.ready += 1
            elif sequence.transit == KEPT:
                del self.kept[sequence]
                sequence.transit = HERE
                self.pool.end([sequence], step)
            else:
                self._free(sequence, step)
        self.told.clear()

    def wanted(self) -> list[Sequence]:
        """Who loads or is ready, and was not given up."""
        return [each for each in self.parked if each.transit != CANCELLED]

    def promised(self, prefilling: list[Sequence], batch: Batch) -> int:
        """Blocks that prompts in progress still need: nobody who loads may take them."""
        pool, blocks = self.pool, 0
        for sequence in prefilling:
            held_tokens = sequence.kv_tokens
            if sequence in batch.prefills:
                held_tokens += batch.chunks[batch.prefills.index(sequence)][0]
            blocks += pool.remaining(sequence.target_tokens, held_tokens)
        for sequence in self.wanted():
            blocks += pool.remaining(sequence.target_tokens, sequence.loaded_tokens)
        return blocks

    def _free(self, sequence: Sequence, step: int) -> None:
        del self.parked[sequence]
        sequence.transit = HERE
        self.pool.throw_out(sequence, sequence.loaded_tokens, step)
