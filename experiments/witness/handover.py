"""Prefill and decode in two engines: what scenarios of it are drawn of."""

from typing import NamedTuple

import numpy as np

from experiments.witness.drafts import Drafts


class Handover(NamedTuple):
    """A second engine that answers, while the first one computes prompts."""

    seats: int
    budget: int
    blocks: int
    ticks: int
    """Of a transfer, whatever its size."""


def drawn_handover(
    rng: np.random.Generator, longest: int, seats: int, size: int, drafts: Drafts | None
) -> Handover:
    """An engine that is large or small, near or far; with room for drafts, if there are any."""
    own = int(rng.choice([1, 2, 5, 16]))
    short = rng.random() < 0.6
    rows = 0 if drafts is None else 1 + drafts.tokens
    budget = int(max(own, rng.choice([16, 64, 512])))
    blocks = int(longest + rng.integers(0, 2 * longest)) if short else longest * own + 10
    return Handover(
        seats=own,
        budget=max(budget, rows + 1 if rows else 0),
        blocks=blocks - (-4 * rows // size),
        ticks=int(rng.choice([1 << 10, 1 << 18, 1 << 20, 1 << 23])),
    )
