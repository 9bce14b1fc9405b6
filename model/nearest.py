"""Which known word somebody may have meant: the one that the fewest slips turn into theirs."""

from collections.abc import Iterable

SAME = {
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "float": "float32",
    "fp32": "float32",
}
"""Other words for the same, which no slip of the pen makes of each other."""
LONGEST = 64
"""Characters of a word that are compared; no known word has as many."""


def closest(word: object, choices: Iterable[str]) -> str | None:
    """Return the choice that ``word`` is a misspelling or a part of; None when none is close.

    A third of its letters may be wrong: left out, added, changed, or two neighbours swapped. Else a
    choice counts that has all of its words (``max_seqs``: ``max_num_seqs``), or has no others.
    """
    wanted = _plain(str(word)[:LONGEST])
    most = max(1, len(wanted) // 3)
    if SAME.get(wanted) in (choices := tuple(choices)) and wanted not in choices:
        return SAME[wanted]
    best, least = None, (most, 1)
    others: list[tuple[int, bool, str]] = []
    for choice in choices:
        known = _plain(choice)
        if known == wanted:
            return choice
        if abs(len(known) - len(wanted)) <= most:
            score = (_slips(wanted, known), -_shared(wanted, known))
            if score < least:
                best, least = choice, score
        if left := _words_apart(wanted, known):
            others.append((left, len(known) < len(wanted), choice))
    return min(others)[-1] if best is None and others else best


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def _shared(one: str, other: str) -> int:
    """Letters that both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def _words_apart(one: str, other: str) -> int:
    """Words that one has and the other has not, if those of one are all the other's; else 0."""
    mine, theirs = set(one.split("_")), set(other.split("_"))
    if not (mine < theirs or theirs < mine) or max(map(len, mine & theirs)) < 4:
        return 0
    return len(mine ^ theirs)


def _slips(one: str, other: str) -> int:
    """Edit distance with swapped neighbours as one slip (Damerau, 1964; optimal alignment)."""
    before, last = [0] * (len(other) + 1), list(range(len(other) + 1))
    for row, a in enumerate(one, start=1):
        now = [row]
        for column, b in enumerate(other, start=1):
            cost = min(last[column] + 1, now[-1] + 1, last[column - 1] + (a != b))
            if row > 1 and column > 1 and a == other[column - 2] and one[row - 2] == b:
                cost = min(cost, before[column - 2] + 1)
            now.append(cost)
        before, last = last, now
    return last[-1]
