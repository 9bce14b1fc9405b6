"""How far a sweep is: a bar for people, a line for logs. Always on stderr."""

import sys

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from experiments.reporting.terminal import console
from experiments.running.results import Progress
from experiments.running.sweep import Run


class Bar(Progress):
    """A progress bar on the terminal, gone when the sweep ends."""

    def __init__(self) -> None:
        self._bar = RichProgress(
            TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[last]}"), console=console(sys.stderr), transient=True,
        )  # fmt: skip

    def start(self, total: int, finished: int) -> None:
        """Show the bar, filled as far as earlier calls got."""
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


class Lines(Progress):
    """One line at the start, when there is something to continue."""

    def start(self, total: int, finished: int) -> None:
        """Say how much an interrupted call left to do."""
        if finished:
            print(f"{finished} of {total} runs are finished already", file=sys.stderr)

    def note(self, text: str) -> None:
        """Say it."""
        print(text, file=sys.stderr)
