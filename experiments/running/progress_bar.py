"""How far a sweep is, as a bar for people. Always on stderr."""

import sys
import time
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from experiments.reporting.terminal import console
from experiments.running.reached import Place, places
from experiments.running.results import Progress
from experiments.running.sweep import Run

FIRST_GUESS_S = 2.0
"""Before that nobody knows how long it takes."""


class Last(ProgressColumn):
    """What ended last: as much of its name as there is room for, on one line."""

    def render(self, task: Task) -> Text:
        """Write the field ``last`` of a task."""
        return Text(task.fields["last"], no_wrap=True, overflow="ellipsis")


class Left(ProgressColumn):
    """Time left, and where the runs under way are in simulated time."""

    max_refresh = 0.5

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))
        self.folder: Path | None = None
        self.before = 0.0
        """Runs that were there at the beginning: they took no time."""
        self.began_s = time.monotonic()

    def render(self, task: Task) -> Text:
        """Write ``0:41 left, at 1,234 of 3,600 s``."""
        found = [] if self.folder is None else places(self.folder)
        spent_s = time.monotonic() - self.began_s
        return Text(left_text(found, task.completed - self.before, task.remaining or 0.0, spent_s))


def left_text(found: list[Place], done: float, remaining: float, spent_s: float) -> str:
    """Say how long it takes still, from runs done and under way, and where these are.

    Args:
        found: the runs under way.
        done: how many have ended in ``spent_s`` seconds,
        remaining: and how many have not.
    """
    begun = sum(place.share for place in found)
    words = []
    if done + begun > 0 and spent_s > FIRST_GUESS_S:
        left_s = round(spent_s * (remaining - begun) / (done + begun))
        words.append(f"{left_s // 60}:{left_s % 60:02} left")
    if len(found) == 1:
        last = f" of {found[0].last_s:,.0f}" if found[0].last_s > 0 else ""
        words.append(f"at {found[0].reached_s:,.0f}{last} s of simulated time")
    elif found:
        words.append(f"{len(found)} runs {100 * begun / len(found):.0f}% through")
    return ", ".join(words)


class Bar(Progress):
    """A progress bar on the terminal, gone when the sweep ends."""

    def __init__(self) -> None:
        self._left = Left()
        self._bar = RichProgress(
            TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            self._left, Last(), console=console(sys.stderr),
            transient=True,
        )  # fmt: skip

    def watch(self, folder: Path) -> None:
        """Look there for how far runs have come."""
        self._left.folder = folder

    def start(self, total: int, finished: int) -> None:
        """Show the bar, filled as far as earlier calls got."""
        self._left.before, self._left.began_s = float(finished), time.monotonic()
        self._bar.start()
        self._task = self._bar.add_task("", total=total, completed=finished, last="")

    def advance(self, run: Run) -> None:
        """Fill the bar by one run and name it."""
        self._bar.update(self._task, advance=1, last=run.label)

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say it above the bar."""
        print(text, file=sys.stderr)
