"""Prefix caching in several groups of the KV cache: what scenarios of it are drawn of."""

from typing import NamedTuple

import numpy as np

SIZES = "sizes"
"""Part of a feature: blocks of groups hold different numbers of tokens."""
RETENTION = "retention"
"""Part of a feature: what windows keep is set, not the release's default."""
STATES = "states"
"""Part of a feature: groups of states beside one of full attention."""
CHUNKS = "chunks"
"""Part of a feature: layers that attend chunks beside one of full attention."""
EXPORTS = "exports"
"""And a prompt's last step can leave two of them behind."""
DENSE = -1
"""A retention interval: all is kept."""


class Hybrid(NamedTuple):
    """What the groups of a cache have beside windows."""

    times: list[int]
    """Of each group, its blocks in blocks of the scenario's size."""
    retention: int | None
    """``prefix_cache_retention_interval`` in tokens; None: the release's default."""
    exports: bool = False
    """Whether a prompt's last step can leave two states behind."""


def drawn_hybrid(
    rng: np.random.Generator, on: frozenset[str], windows: tuple[int | None, ...], block_size: int
) -> Hybrid:
    """Draw what a feature has of it. Blocks of full attention are the larger ones."""
    whole = int(rng.choice([2, 3])) if SIZES in on else 1
    times = [whole if window is None else 1 for window in windows]
    retention = None
    if RETENTION in on:
        step = block_size * max(times)
        retention = int(rng.choice([DENSE, 0, step, 3 * step]))
    return Hybrid(times, retention, EXPORTS in on)
