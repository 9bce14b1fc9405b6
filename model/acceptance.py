"""Measured acceptance of drafts by model, method and kind of text: rows of ``acceptance.yaml``."""

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class MeasuredAcceptance:
    """Mean acceptance lengths of one drafter on one kind of text."""

    model: str
    method: str
    text: str
    run: int
    """Of the source's GitHub Actions."""
    lengths: tuple[float, ...]
    """With 1, 2, ... drafts a step."""

    def rates(self, tokens: int) -> list[float]:
        """Return the probability that the first, the first two, ... of so many drafts are right.

        That of draft i is how much longer steps with i drafts are than with i - 1. Lengths were
        measured apart, so that a difference can be larger than the one before by chance: such
        neighbours share their mean, as does one below 0 with those before it, and the sum stays the
        measured one.

        Raises:
            ValueError: more drafts than were measured.
        """
        if tokens > len(self.lengths):
            raise ValueError(
                f"measured with up to {len(self.lengths)} drafts, expected at most as many"
            )
        lengths = (1.0, *self.lengths[:tokens])
        runs: list[tuple[float, int]] = []
        for before, after in pairwise(lengths):
            total, count = after - before, 1
            while runs and (runs[-1][0] / runs[-1][1] < total / count or total < 0):
                more, longer = runs.pop()
                total, count = total + more, count + longer
            runs.append((total, count))
        return [total / count for total, count in runs for _ in range(count)]


@lru_cache(maxsize=1)
def measured_acceptance() -> dict[str, MeasuredAcceptance]:
    """Return every row by its name."""
    from ruamel.yaml import YAML

    table = YAML(typ="safe").load(Path(__file__).with_name("acceptance.yaml"))
    return {
        name: MeasuredAcceptance(**row | {"lengths": tuple(row["lengths"])})
        for name, row in table.items()
    }
