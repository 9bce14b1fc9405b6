"""The runs that a search asks for: simulated once each, by whoever simulates, and kept.

A search is a function of what its runs say. One that was killed begins again and finds the runs
that had ended, so it goes through the same questions until it comes to one without an answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path

from experiments.planning.progress import SearchProgress
from experiments.planning.samples import READ, Sample, sample_of
from experiments.running.identity import run_key
from experiments.running.pieces import SUFFIX
from experiments.running.sweep import Executor, Run, unfinished
from experiments.study.document import Study
from model.dataclass import dataclass

MOST_HELD = 5_000_000
"""Requests whose answers are kept in memory, some ten bytes each."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is asked for."""

    study: Study
    """One settled point."""
    seed: int
    label: str
    """What an error or a progress bar calls it."""
    draw: int | None = None


@dataclass(slots=True)
class Trials:
    """Asks for runs and remembers what they said.

    Args:
        folder: where finished runs wait until the search has ended.
        executor: who simulates.
        progress: is told of every run.
    """

    folder: Path
    executor: Executor
    progress: SearchProgress
    runs: int = field(default=0, init=False)
    requests: int = field(default=0, init=False)
    """Measured so far, of all runs."""
    resumed: int = field(default=0, init=False)
    """Runs that an earlier, interrupted call had finished."""
    _seen: dict[Path, Sample] = field(default_factory=dict, init=False)
    _asked: set[Path] = field(default_factory=set, init=False)

    def ask(self, trials: Sequence[Trial]) -> list[Sample]:
        """Return what each run says, simulating those that are not there.

        Raises:
            StudyError: a run refused its input.
            RunError: a worker was killed, or memory ran out.
        """
        runs = [self._run(trial) for trial in trials]
        new = {run.path: run for run in runs if run.path not in self._asked}
        todo = unfinished(new.values())
        if kept := len(new) - len(todo):
            self.resumed += kept
            self.progress.found(kept)
        if todo:
            self.executor.run(todo, self.progress.advance, _nothing)
        answers = [self._answer(run) for run in runs]
        self._forget()
        return answers

    def _answer(self, run: Run) -> Sample:
        sample = self._seen.get(run.path)
        if sample is None:
            sample = self._seen[run.path] = sample_of(run.path, run.study)
        if run.path not in self._asked:
            self._asked.add(run.path)
            self.runs += 1
            self.requests += sample.measured
        return sample

    def _forget(self) -> None:
        """Drop the oldest answers when memory holds many requests: their files are there."""
        held = sum(sample.measured for sample in self._seen.values())
        for path in list(self._seen):
            if held <= MOST_HELD:
                break
            held -= self._seen.pop(path).measured

    def _run(self, trial: Trial) -> Run:
        name = f"{run_key(trial.study, trial.seed, trial.draw)}{SUFFIX}"
        label = f"{trial.label}, seed {trial.seed}"
        path = self.folder / name
        return Run(1, label, trial.seed, trial.study, path, trial.draw, columns=READ)


Ask = Callable[[Sequence[Trial]], list[Sample]]


def _nothing() -> None:
    """The search itself tells how far it is."""
