"""Drafts of a scenario: how many, made by what, and which of them are right."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Drafts(NamedTuple):
    """Drafts of several tokens, and which of them are right."""

    method: str
    tokens: int
    by_sequences: list[tuple[int, int, int]]
    """Fewer in larger batches: from, to, tokens."""
    accepted: list[list[int]]
    """Of every request, how many in a row are right behind each of its output tokens."""
    kinds: tuple[int | None, ...] = ()
    """Windows of the groups of the KV cache with layers of the drafter, where there are several."""


def in_groups(
    drafts: Drafts, rng: np.random.Generator, windows: tuple[int | None, ...], chunks: bool
) -> Drafts:
    """The same with layers of the drafter in one kind of groups, or in several; ``chunks``: they
    may attend chunks."""
    if chunks:  # with EAGLE vLLM has no groups then
        drafts = drafts._replace(method="draft_model")
    kinds = list(dict.fromkeys(windows))
    rng.shuffle(kinds)
    return drafts._replace(kinds=tuple(kinds[: int(rng.choice([1, 1, 1, 2]))]))


def drawn_drafts(rng: np.random.Generator, output: np.ndarray, ahead: bool) -> Drafts:
    """One to six drafts, from hopeless to sure."""
    tokens = int(rng.integers(1, 7))
    methods = ["eagle", "eagle3", "draft_model"] + ([] if ahead else ["ngram"])
    sure = float(rng.choice([0.0, 0.5, 0.8, 1.0]))
    accepted = [
        (rng.random((int(count), tokens)) < sure).cumprod(axis=1).sum(axis=1).tolist()
        for count in output
    ]
    ends = sorted({int(each) for each in rng.integers(1, 20, 2)})
    ranges = [
        (first + 1, last, int(rng.integers(0, tokens + 1))) for first, last in pairwise([0, *ends])
    ]
    return Drafts(
        method=str(rng.choice(methods)),
        tokens=tokens,
        by_sequences=ranges if rng.random() < 0.3 else [],
        accepted=accepted,
    )
