"""Sums of operators that are each the longest of straight lines."""

from collections.abc import Sequence
from itertools import combinations
from math import ceil

from hardware.steps.prices import Piece

Line = tuple[float, float]
"""Seconds, and seconds per position attended."""

Longer = tuple[Line, ...]
"""An operator that takes the longest of some lines: arithmetic and traffic, a kernel's floor."""


def straight_pieces(operators: Sequence[Longer]) -> tuple[Piece, ...]:
    """Return what operators take together, each the longest of its lines.

    The steeper of two lines is the longer one from where they cross; between crossings all is
    straight. Pieces come from the last to the first, which starts at 0.
    """
    if len(operators) == 1 and len(operators[0]) == 2:  # most are: of each batch one
        flat, steep = sorted(operators[0], key=lambda line: line[::-1])
        start = _crossing(flat, steep)
        last = (start, float(steep[0]), float(steep[1]))
        return (last, (0, float(flat[0]), float(flat[1]))) if start else (last,)
    by_slope = [sorted(lines, key=lambda line: line[::-1]) for lines in operators]
    crossings = {_crossing(*pair) for lines in by_slope for pair in combinations(lines, 2)}
    pieces = []
    for start in sorted({0, *crossings}, reverse=True):
        longest = [_longest(lines, start) for lines in by_slope]
        flat_s, slope_s = (sum((line[part] for line in longest), 0.0) for part in (0, 1))
        pieces.append((start, flat_s, slope_s))
    return tuple(pieces)


def at_least(pieces: Sequence[Piece], floor_s: float) -> tuple[Piece, ...]:
    """Return pieces that take ``floor_s`` at least: a flat one up to where they pass it.

    Pieces come from the last to the first, and rise with the positions.
    """
    kept = []
    for start, flat_s, slope_s in pieces:
        if flat_s + slope_s * start >= floor_s:
            kept.append((start, flat_s, slope_s))
            continue
        if slope_s > 0:
            above = ceil(min((floor_s - flat_s) / slope_s, 1e18))
            if not kept or above < kept[-1][0]:
                kept.append((above, flat_s, slope_s))
        return (*kept, (0, floor_s, 0.0))
    return tuple(kept)


def _crossing(flat: Line, steep: Line) -> int:
    """Positions from which on the steeper of two lines is the longer one."""
    if flat <= steep:
        return 0
    return ceil(min((flat[0] - steep[0]) / (steep[1] - flat[1]), 1e18))


def _longest(lines: Sequence[Line], start: int) -> Line:
    """The longest of lines, in the order of their slopes, behind ``start`` positions."""
    longest = lines[0]
    for steeper in lines[1:]:
        if start >= _crossing(longest, steeper):
            longest = steeper
    return longest
