"""What can be wrong with a study, said once and in full."""

import math
from collections.abc import Iterable, Sequence

from model.dataclass import dataclass
from model.nearest import closest

MAX_SHOWN = 20
"""Problems printed before the rest is only counted."""
MAX_VALUE_CHARACTERS = 60
"""A longer value is cut in a message."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where it stands (``file:line`` or an option), and what is wrong there."""

    where: str
    text: str

    def __str__(self) -> str:
        text = self.text.replace("\n", "\n    ")
        return f"{self.where}: {text}" if self.where else text


class StudyError(ValueError):
    """Every fault found in a study, in the order of the file; each with line, key and value."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        shown = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if len(self.problems) > MAX_SHOWN:
            shown.append(f"... and {len(self.problems) - MAX_SHOWN} more")
        if len(shown) > 1:
            shown = [f"{len(self.problems)} problems", *shown]
        super().__init__("\n  ".join(shown))

    def __reduce__(self) -> tuple[type["StudyError"], tuple[tuple[Problem, ...]]]:
        return StudyError, (self.problems,)  # so that it survives the way back from a worker

    @classmethod
    def of(cls, text: str, where: str = "") -> "StudyError":
        """Return the error of a single fault."""
        return cls([Problem(where, text)])


class RunError(RuntimeError):
    """A sweep stopped for a reason outside the study: a killed worker, a full disk."""


def show(value: object) -> str:
    """Write a value as a message shows it: as in YAML, and not longer than a line."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, float) and not math.isfinite(value):
        text = "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    else:
        text = str(value) if value != "" else "''"
    cut = len(text) > MAX_VALUE_CHARACTERS
    return text[: MAX_VALUE_CHARACTERS - 3] + "..." if cut else text


def nearest(word: object, choices: Sequence[str]) -> str:
    """Return ``"; did you mean X?"`` for the closest choice, or nothing when none is close."""
    found = closest(word, choices)
    return f"; did you mean {found}?" if found else ""
