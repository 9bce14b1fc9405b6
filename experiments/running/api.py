"""``load_study`` and ``run_study``: studies from Python."""

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.reporting.records import Records
from experiments.running.cluster import connected
from experiments.running.folder import chosen_folder
from experiments.running.local import Local
from experiments.running.results import run_plan
from experiments.running.sweep import Executor
from experiments.study.document import Given, Study, from_study, read_raw
from experiments.study.errors import StudyError
from experiments.study.kinds import SEARCHES, kind_of
from experiments.study.overrides import given_overrides
from experiments.study.plugins import allowed, read_plugins
from experiments.study.points import Plan, prepare
from model.dataclass import dataclass

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Settings = Mapping[str, Any]
"""Dotted keys and values, as ``--set`` takes them: ``{"engine.block_size": 32}``."""


@dataclass(frozen=True, slots=True, repr=False)
class StudyResult:
    """The tables of a study that ran."""

    study: Study
    summary: "DataFrame"
    """One row per point: the swept keys, each metric's mean over seeds, and its interval."""
    runs: "DataFrame"
    """One row per (point, seed)."""
    differences: "DataFrame"
    """One row per point and metric: what it changes against its baseline; empty for one point."""
    requests: "DataFrame"
    """One row per request per run."""
    notes: tuple[str, ...]
    """What a reader has to know, e.g. that one seed was enough."""
    folder: Path | None
    """Where the results lie; None when they were asked for in memory only."""

    @property
    def keys(self) -> list[str]:
        """The swept keys."""
        names = [str(name) for name in self.summary]
        return names[1 : min(names.index(name) for name in ("seeds", "draws") if name in names)]

    def __repr__(self) -> str:
        """What a console shows: how much there is, not all of it."""
        counts = (
            f"{len(table):,} {name}"
            for name, table in (
                ("points", self.summary), ("runs", self.runs), ("requests", self.requests),
            )
        )  # fmt: skip
        lies = f" in {self.folder}" if self.folder else ""
        return f"<StudyResult of {self.study.name}{lies}: {', '.join(counts)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: one row per point, as in a terminal."""
        from experiments.reporting.formats import html_table

        return html_table(Records.of_frame(self.summary), self.keys)

    def plot(self, name: str = "latency") -> "Figure":
        """Draw a figure of the study: throughput_latency, latency or utilisation.

        Raises:
            ValueError: another name, or nothing to draw.
        """
        from experiments.reporting.notebook import figure_named

        tables = (Records.of_frame(self.runs), Records.of_frame(self.summary))
        return figure_named(name, self.study.name, self.keys, *tables, self.study.slo)


def load_study(
    study: Given, settings: Settings | None = None, plugins: Iterable[str | Path] = ()
) -> Study:
    """Read and check a study: a path, the name of a bundled one, or a mapping like a study file.

    ``plugins`` are modules whose classes it may name, as ``--plugin`` takes them.

    Raises:
        StudyError: everything that is wrong with it, each with file, line, key and value.
    """
    with allowed(read_plugins(plugins)):
        return _plan(study, settings).study


def run_study(
    study: Study | Given,
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    scheduler_address: str | None = None,
    settings: Settings | None = None,
    overwrite: bool = False,
    plugins: Iterable[str | Path] = (),
) -> StudyResult:
    """Run every point of a study with every seed; with ``out``, leave its results folder there.

    Runs go to ``jobs`` processes, or to the dask.distributed cluster whose scheduler listens at
    ``scheduler_address`` (``HOST:PORT``). Results of other settings in ``out`` are replaced with
    ``overwrite`` alone, files that headroom did not write never. ``plugins`` are modules whose
    classes the study may name, as ``--plugin`` takes them.

    Raises:
        StudyError: the study is wrong, ``out`` cannot be written or holds what may not be replaced,
            or no scheduler answers. Nothing was simulated.
        RunError: a worker was killed, memory ran out, the cluster is gone, or something that is not
            ours came in the way of the results. Finished runs are kept.
        ValueError: ``jobs`` is below 1, or given beside ``scheduler_address``.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs = {jobs!r}, expected a whole number of at least 1")
    if jobs > 1 and scheduler_address is not None:
        raise ValueError(f"jobs = {jobs} beside scheduler_address, expected one of them")
    with ExitStack() as stack:
        stack.enter_context(allowed(read_plugins(plugins)))
        plan = _plan(study, settings)
        executor: Executor = Local(jobs)
        if scheduler_address is not None:
            executor = stack.enter_context(connected(scheduler_address))
        if out is not None:
            folder = chosen_folder(str(out), plan.study.name)
            return _run(plan, folder, executor, kept=True, overwrite=overwrite)
        passing = stack.enter_context(tempfile.TemporaryDirectory(prefix="headroom-"))
        return _run(plan, Path(passing) / "results", executor, kept=False)


def _plan(study: Study | Given, settings: Settings | None) -> Plan:
    overrides = given_overrides(settings)
    if not isinstance(study, Study):
        loaded = read_raw(study, overrides)
        kind = kind_of(loaded)
        if kind != "serving":
            label = loaded.document.label
            how = "run_search runs it" if kind in SEARCHES else f"headroom run {label} does"
            raise StudyError.of(f"study {label} is of kind {kind}, expected serving: {how}")
        return prepare(loaded)
    if overrides:
        raise ValueError("settings apply to a study file; change a Study with model_copy")
    return prepare(from_study(study))


def _run(
    plan: Plan, out: Path, executor: Executor, *, kept: bool, overwrite: bool = False
) -> StudyResult:
    import pandas as pd

    outcome = run_plan(plan, out, executor=executor, report=kept, overwrite=overwrite)
    requests = pd.read_parquet(outcome.folder / "requests.parquet")
    tables = outcome.tables
    return StudyResult(
        plan.study, tables.summary.frame(), tables.runs.frame(), tables.differences.frame(),
        requests, plan.notes, outcome.folder if kept else None,
    )  # fmt: skip
