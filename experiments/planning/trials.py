"""The runs that a search asks for: simulated once each, by whoever simulates, and kept.

A search is a function of what its runs say. One that was killed begins again and finds the runs
that had ended, so it goes through the same questions until it comes to one without an answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from experiments.planning.samples import Sample, sample_of
from experiments.running.identity import run_key
from experiments.running.results import Progress
from experiments.running.sweep import Executor, Run, unfinished
from experiments.study.document import Study

T = TypeVar("T")


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
    progress: Progress
    runs: int = field(default=0, init=False)
    requests: int = field(default=0, init=False)
    """Measured so far, of all runs."""
    resumed: int = field(default=0, init=False)
    """Runs that an earlier, interrupted call had finished."""
    _seen: dict[Path, Sample] = field(default_factory=dict, init=False)

    def ask(self, trials: Sequence[Trial]) -> list[Sample]:
        """Return what each run says, simulating those that are not there.

        Raises:
            StudyError: a run refused its input.
            RunError: a worker was killed, or memory ran out.
        """
        runs = [self._run(trial) for trial in trials]
        new = {run.path: run for run in runs if run.path not in self._seen}
        todo = unfinished(new.values())
        self.resumed += len(new) - len(todo)
        if todo:
            self.executor.run(todo, self.progress.advance, _nothing)
        for run in new.values():
            sample = sample_of(run.path, run.study)
            self.runs += 1
            self.requests += sample.measured
            self._seen[run.path] = sample
        return [self._seen[run.path] for run in runs]

    def _run(self, trial: Trial) -> Run:
        name = f"{run_key(trial.study, trial.seed, trial.draw)}.parquet"
        label = f"{trial.label}, seed {trial.seed}"
        return Run(1, label, trial.seed, trial.study, self.folder / name, trial.draw)


Ask = Callable[[Sequence[Trial]], list[Sample]]


def _nothing() -> None:
    """The search itself tells how far it is."""
