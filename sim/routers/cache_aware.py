"""SGLang's cache-aware rule, which vllm-router has as well: a tree of the texts that were sent.

Sources: sgl-project/sglang, sgl-model-gateway/src/policies/cache_aware.rs (commit 053b63f), and
vllm-project/router, which took it over. The router is never told what an engine forgets.
"""

from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from sim.routers.router import Arrival, Looks, Router, Settings, View
from sim.seen.text_tree import TextTree

CHARACTERS: Final = 4
"""Of a token, as these routers have texts."""


class CacheAwareSettings(Settings):
    """Settings of `cache_aware`, in the words of SGLang and vllm-router."""

    cache_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of a prompt that has to match for it to go where it does."""
    balance_abs_threshold: Annotated[int, Field(ge=0, le=1_000_000)] = 64
    """Loads are out of balance if the most and the fewest requests differ by more than this,"""
    balance_rel_threshold: Annotated[float, Field(ge=0, le=1e6)] = 1.5
    """and the most are more than so many times the fewest."""
    without_match: Literal["shortest_queue", "smallest_tree"] = "shortest_queue"
    """Where a prompt goes that does not match: to the fewest requests (SGLang), or to the replica
    that was sent the least text (vllm-router)."""
    eviction_interval_secs: Annotated[float, Field(gt=0, le=1e6)] = 120.0
    """How often texts are forgotten, seconds,"""
    max_tree_size: Annotated[int, Field(gt=0, le=1_000_000_000_000)] = 33_554_432
    """until each replica has at most so many characters, four of them a token: what was sent
    longest ago goes first."""


class CacheAware(Router):
    """SGLang's and vllm-router's rule: where most of the prompt was sent, unless loads are out of
    balance or little of it matches; then the fewest requests."""

    looks_at = Looks.LOADS
    claims = True
    settings = CacheAwareSettings

    def __init__(self, view: View, rng: np.random.Generator, given: CacheAwareSettings) -> None:
        super().__init__(view, rng)
        self._loads = view.loads
        self._tree = TextTree(
            len(view.numbers),
            given.cache_threshold,
            given.balance_abs_threshold,
            given.balance_rel_threshold,
            given.without_match == "smallest_tree",
            given.eviction_interval_secs,
            given.max_tree_size // CHARACTERS,
        )

    def choose(self, arrival: Arrival) -> int:
        """By loads if they are out of balance, else by what matches."""
        tree, text = self._tree, self.view.prompts.text(arrival.request)
        number = tree.choose(text, arrival.prompt_tokens, arrival.arrival_s, self._loads)
        self.claimed_tokens = tree.claimed_tokens
        return number

    def sent(self, number: int) -> None:
        """Its text is in the tree from now on."""
        self._tree.sent(number)
