"""How far a search is. It does not know how many runs it will need, only about how many."""

import sys
import time

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from experiments.reporting.terminal import console
from experiments.running.progress_bar import Last
from experiments.running.results import Progress
from experiments.running.sweep import Run
from model.counts import count_of

BETWEEN_LINES_S = 20.0


class SearchProgress(Progress):
    """What is told while a search runs; this one says nothing."""

    def expect(self, runs: int) -> None:
        """Take note that about so many runs will be needed in all."""

    def found(self, runs: int) -> None:
        """Take note that so many runs are there from an earlier call."""


class _Counted(SearchProgress):
    """Counts, and guesses the time that is left from that which has passed."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.expected = 1
        self.done = 0
        """Runs that have ended, those of an earlier call among them,"""
        self.kept = 0
        """which took no time."""

    def found(self, runs: int) -> None:
        """Take note that so many runs are there from an earlier call."""
        self.done += runs
        self.kept += runs

    def expect(self, runs: int) -> None:
        """Take note that about so many runs will be needed in all."""
        self.expected = max(runs, self.done + 1)

    def left(self) -> str:
        """Write about how long it will take still; nothing before it can be told."""
        if self.done == self.kept:
            return ""
        each_s = (time.monotonic() - self.began_s) / (self.done - self.kept)
        left_s = each_s * max(self.expected - self.done, 1)
        if left_s < 90:
            return f"about {max(1, round(left_s))} s left"
        return f"about {round(left_s / 60)} min left"


class Bar(_Counted):
    """A bar on the terminal, gone when the search ends."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = RichProgress(
            TextColumn("searching"), BarColumn(), TextColumn("runs: {task.completed}"),
            TimeElapsedColumn(), TextColumn("{task.fields[left]}"), Last(),
            console=console(sys.stderr), transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task("", total=self.expected, left="", last="")

    def expect(self, runs: int) -> None:
        """Stretch the bar."""
        super().expect(runs)
        self._bar.update(self._task, total=self.expected)

    def found(self, runs: int) -> None:
        """Fill the bar by what is there."""
        super().found(runs)
        self._bar.update(self._task, advance=runs)

    def advance(self, run: Run) -> None:
        """Fill the bar by one run and name it."""
        self.done += 1
        self.expected = max(self.expected, self.done + 1)
        self._bar.update(
            self._task, advance=1, total=self.expected, last=run.label, left=self.left()
        )

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say it above the bar."""
        print(text, file=sys.stderr)


class Lines(_Counted):
    """A line now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s = self.began_s

    def advance(self, run: Run) -> None:
        """Say how far it is, if it has been quiet for long."""
        self.done += 1
        self.expected = max(self.expected, self.done + 1)
        if time.monotonic() - self._told_s > BETWEEN_LINES_S:
            self._told_s = time.monotonic()
            print(f"{count_of(self.done, 'run')}, {self.left()}: {run.label}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Say it."""
        print(text, file=sys.stderr)
