"""How far a sweep is, as a line for logs. Always on stderr."""

import sys

from experiments.running.results import Progress
from model.counts import count_of


class Lines(Progress):
    """One line at the start, when there is something to continue."""

    def start(self, total: int, finished: int) -> None:
        """Say how much an interrupted call left to do."""
        if finished:
            print(f"finished already: {finished} of {count_of(total, 'run')}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Say it."""
        print(text, file=sys.stderr)
