"""What the prices of a plan's candidates rest on."""

from collections.abc import Sequence

from experiments.planning.plan.candidates import Candidate
from experiments.reporting.words import setup_notes

MOST_NAMED = 4
"""Candidates that one sentence names."""


def basis_notes(candidates: Sequence[Candidate]) -> list[str]:
    """Say what a buyer must know of prices and fit: each sentence once, and whom it is about.

    ``candidates`` are some that can be served.
    """
    found = setup_notes((one.name, one.study) for one in candidates)
    return [
        text if len(names) == len(candidates) else f"{_listed(names)}: {text}"
        for text, names in found.items()
    ]


def _listed(names: Sequence[str]) -> str:
    shown = "; ".join(names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
