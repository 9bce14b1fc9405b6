"""The runs of a plan, and what simulates them: see ``local`` and ``cluster``."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from experiments.running.identity import run_key
from experiments.running.pieces import SUFFIX, is_whole
from experiments.study.document import Study
from experiments.study.errors import Problem, RunError, StudyError
from experiments.study.grid import Setting
from experiments.study.plugins import blamed
from experiments.study.points import Plan
from model.dataclass import dataclass

CONFORMANCE = "sim.conformance tells which rule a class of one's own breaks"
"""Where to look when a run with such a class ends badly."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation: a point with a draw and a seed, and the file of its outcome."""

    point: int
    label: str
    """The point in words: ``point 2 (engine.block_size=32), seed 0``."""
    seed: int
    study: Study
    path: Path
    draw: int | None = None
    """Which of the drawn calibrations prices it; None: the calibration as it is."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The swept keys and their values at the point."""
    columns: tuple[str, ...] = ()
    """Of the request table, where nothing else of the run is wanted; none: all that it tells."""

    @property
    def identity(self) -> dict[str, int]:
        """The columns that tell this run from the others: the draw only where there are some."""
        drawn = {} if self.draw is None else {"draw": self.draw}
        return {"point": self.point, **drawn, "seed": self.seed}


Done = Callable[[Run], None]
"""Told of each run as it ends."""

Begun = Callable[[], None]
"""Told when whoever simulates has been started, to do what can be done meanwhile."""


def runs_of(plan: Plan, folder: Path) -> list[Run]:
    """Return every run in the order of the tables: by point, then by draw, then by seed."""
    found = []
    for point in plan.points:
        values = Setting(point.values, {}).label()
        about = f"point {point.number} ({values})" if values else f"point {point.number}"
        for draw, seed in product(point.draws, point.seeds):
            which = f"seed {seed}" if draw is None else f"draw {draw}, seed {seed}"
            path = folder / f"{run_key(point.study, seed, draw)}{SUFFIX}"
            found.append(
                Run(point.number, f"{about}, {which}", seed, point.study, path, draw, point.values)
            )
    return found


def unfinished(runs: Iterable[Run]) -> list[Run]:
    """Return the runs without a whole piece."""
    return [run for run in runs if not is_whole(run.path)]


@contextmanager
def named_errors(run: Run) -> Iterator[None]:
    """Let whatever goes wrong while a run is simulated name its point."""
    try:
        yield
    except RunError:
        raise
    except MemoryError:
        raise RunError(f"{run.label}: out of memory") from None
    except Exception as error:
        if run.study.own_classes():
            raise StudyError([Problem(run.label, f"{blamed(error)}; {CONFORMANCE}")]) from error
        if isinstance(error, ValueError):
            raise StudyError([Problem(run.label, str(error))]) from error
        error.add_note(f"while simulating {run.label}")
        raise


class Executor(Protocol):
    """Where runs are simulated."""

    def facts(self) -> dict[str, Any]:
        """What the manifest tells of how a study was run."""

    @property
    def jobs(self) -> int:
        """Processes of this machine that may be used."""

    def run(self, runs: list[Run], done: Done, begun: Begun) -> None:
        """Leave the piece of each run behind; ``done`` is told of each as it ends.

        ``begun`` is told once, when the simulation has been started, also if there is no run.
        """
