"""A policy of one's own: of the prompts under way, that with the least left of it goes first.

headroom run examples/shortest_remaining.yaml --plugin examples/shortest_remaining.py
headroom check examples/shortest_remaining.py
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import Ranked, WaitingQueue


class ShortestRemaining(ChunkedPrefill):
    """vLLM v1's steps, the chunks by what is left; who waits ``patience`` steps goes first."""

    def __init__(
        self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, *, patience: int = 50
    ) -> None:
        super().__init__(pool, waiting, settings)
        self.patience = patience
        self.waits: dict[Sequence, int] = {}

    def form(self, now_s: float) -> Batch | None:
        """Return the next step: the prompts under way in this order, then as vLLM does it."""
        self.waits = {each: self.waits.get(each, 0) + 1 for each in self.prefilling}
        self.prefilling.sort(
            key=lambda each: (self.waits[each] < self.patience, each.target_tokens - each.kv_tokens)
        )
        return super().form(now_s)


class ShortestJob(Ranked):
    """The order that goes with it: shortest prompt first, an hour of waiting worth a token more."""

    def rank(self, sequence: Sequence) -> float:
        """Return a request's place in the queue: the least goes first."""
        return sequence.prompt_tokens + sequence.arrival_s / 3600
