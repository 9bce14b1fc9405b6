"""The searches: from a study file of each kind to something that runs."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from experiments.planning.progress import SearchProgress
from experiments.reporting.drawing import Picture
from experiments.running.sweep import Executor
from experiments.study.document import Loaded, Study
from experiments.study.kinds import kind_of
from model.counts import count_of
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Told:
    """What a search says when it has ended."""

    answer: Sequence[str]
    """For stdout."""
    notes: Sequence[str]
    """For stderr."""
    tables: Callable[[], Mapping[str, "DataFrame"]]
    """Those of the files."""
    picture: Picture
    is_kept: bool
    """Whether something keeps the SLO: a candidate; a value, at every point."""


class Search(Protocol):
    """A search that was checked and can run."""

    @property
    def name(self) -> str:
        """Of the study."""

    @property
    def study(self) -> Study:
        """As it was checked."""

    @property
    def notes(self) -> Sequence[str]:
        """What checking it found that a person should know."""

    def dry_run(self) -> list[str]:
        """Say what will be searched, and about what it costs."""

    def run(
        self,
        out: Path,
        *,
        executor: Executor,
        progress: SearchProgress,
        overwrite: bool,
        figures: bool,
    ) -> Told:
        """Search, leave a results folder behind.

        Raises:
            StudyError: ``out`` cannot be written or holds what may not be replaced.
            RunError: it ended early; finished runs are kept.
        """


MODULES = {
    "plan": "experiments.planning.plan.running",
    "capacity": "experiments.planning.capacity.search",
}
"""Kind to the module whose ``search_of`` checks a study of it."""


def ended(runs: int, resumed: int, requests: int) -> str:
    """Say what a search took, and what of it was there from an earlier call."""
    before = f" ({resumed} from an earlier call)" if resumed else ""
    return f"{count_of(runs, 'run')}{before}, {count_of(requests, 'request')} measured"


def search_of(loaded: Loaded) -> Search:
    """Check the study of a search.

    Raises:
        StudyError: everything that is wrong with it.
    """
    module = import_module(MODULES[kind_of(loaded)])
    make: Callable[[Loaded], Search] = module.search_of
    return make(loaded)
