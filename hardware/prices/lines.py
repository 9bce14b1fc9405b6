"""Sums of operators that are each the longer of two straight lines."""

from collections.abc import Sequence
from math import ceil

from hardware.step_prices import Piece

Line = tuple[float, float]
"""Seconds, and seconds per position attended."""

Longer = tuple[Line, Line]
"""An operator that takes the longer of two lines: arithmetic and traffic, or a kernel's floor and
its traffic."""


def straight_pieces(operators: Sequence[Longer]) -> tuple[Piece, ...]:
    """Return what operators take together, each the longer of its two lines.

    The steeper line is the longer one from where the two cross; between crossings all is straight.
    Pieces come from the last to the first, which starts at 0.
    """
    lines = [sorted(pair, key=lambda line: line[::-1]) for pair in operators]
    crossings = [
        ceil(min((flat[0] - steep[0]) / (steep[1] - flat[1]), 1e18)) if flat > steep else 0
        for flat, steep in lines
    ]
    pieces = []
    for start in sorted({0, *crossings}, reverse=True):
        longer = [pair[start >= cross] for pair, cross in zip(lines, crossings, strict=True)]
        pieces.append((start, sum(line[0] for line in longer), sum(line[1] for line in longer)))
    return tuple(pieces)
