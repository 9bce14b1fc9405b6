"""``run_search``: ``kind: capacity`` and ``kind: plan`` from Python."""

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.planning.kinds import search_of
from experiments.planning.progress import SearchProgress
from experiments.reporting.drawing import Picture
from experiments.running.cluster import connected
from experiments.running.folder import chosen_folder
from experiments.running.local import Local
from experiments.running.sweep import Executor
from experiments.study.document import Given, Study, read_raw
from experiments.study.errors import StudyError
from experiments.study.kinds import SEARCHES, kind_of
from experiments.study.overrides import given_overrides
from experiments.study.plugins import allowed, read_plugins
from model.dataclass import dataclass

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, slots=True, repr=False)
class SearchResult:
    """What a search found."""

    study: Study
    answer: tuple[str, ...]
    """In sentences, as the terminal has it."""
    tables: Mapping[str, "DataFrame"]
    """Those of the files: plan, candidates, windows, sensitivity; or capacity, probes."""
    notes: tuple[str, ...]
    """What checking the study found that a reader has to know."""
    folder: Path | None
    """Where the results lie; None when they were asked for in memory only."""
    picture: Picture

    def __repr__(self) -> str:
        """What a console shows: the answer, as the terminal has it."""
        return "\n".join((f"<SearchResult of {self.study.name}", *self.answer)) + ">"

    def _repr_html_(self) -> str:
        """What a notebook shows: the answer, and a row for each point or finalist."""
        lines = "".join(f"<div>{escape(line)}</div>" for line in self.answer)
        table = self.tables[self.study.kind]
        return lines + str(table.to_html(index=False, na_rep="", float_format="{:.4g}".format))

    def plot(self) -> "Figure":
        """Draw the picture of the search, as its folder has it."""
        return self.picture.figure()


def run_search(
    study: Given,
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    scheduler_address: str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    plugins: Iterable[str | Path] = (),
) -> SearchResult:
    """Search; with ``out``, leave the results folder there.

    ``study`` is a path, the name of a bundled one or a mapping, of kind plan or capacity: a study
    of serving becomes one with ``settings={"kind": "capacity"}``. The other arguments are those of
    ``run_study``.

    Raises:
        StudyError: the study is wrong, or ``out`` cannot be written or holds what may not be
            replaced. Nothing was simulated.
        RunError: a worker was killed, or the cluster is gone. Finished runs are kept in ``out``.
        ValueError: ``jobs`` is below 1, or given beside ``scheduler_address``.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs = {jobs!r}, expected a whole number of at least 1")
    if jobs > 1 and scheduler_address is not None:
        raise ValueError(f"jobs = {jobs} beside scheduler_address, expected one of them")
    changes = given_overrides(settings)
    with ExitStack() as stack:
        stack.enter_context(allowed(read_plugins(plugins)))
        loaded = read_raw(study, changes)
        kind = kind_of(loaded)
        if kind not in SEARCHES:
            raise StudyError.of(
                f"study {loaded.document.label} is of kind {kind}, expected one of "
                f"{', '.join(SEARCHES)}"
            )
        search = search_of(replace(loaded, raw={**loaded.raw, "kind": kind}))
        executor: Executor = Local(jobs)
        if scheduler_address is not None:
            executor = stack.enter_context(connected(scheduler_address))
        if out is None:
            passing = stack.enter_context(tempfile.TemporaryDirectory(prefix="headroom-"))
            folder = Path(passing) / "results"
        else:
            folder = chosen_folder(str(out), search.name)
        told = search.run(
            folder, executor=executor, progress=SearchProgress(), overwrite=overwrite,
            figures=out is not None,
        )  # fmt: skip
        return SearchResult(
            search.study, tuple(told.answer), told.tables(), tuple(search.notes),
            None if out is None else folder, told.picture,
        )  # fmt: skip
