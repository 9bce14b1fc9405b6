"""The results folder of a search: claimed, filled by the search, published whole or not at all."""

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from experiments.planning.progress import SearchProgress
from experiments.planning.trials import Trials
from experiments.running.folder import Wanted, results_folder, some
from experiments.running.identity import code_digest, digest_of, file_digest
from experiments.running.publish import claimed, publish
from experiments.running.sweep import Executor
from experiments.running.versions import machine, versions
from experiments.running.work_folder import ended, shown
from experiments.study.document import Study
from experiments.study.plugins import plugin_facts
from model.sources import sources_digest

SEARCHING = "experiments/planning"
"""The code that decides what is asked, and what is made of the answers; with its rooms."""

T = TypeVar("T")


def search_in_folder(
    study: Study,
    out: Path,
    names: frozenset[str],
    depends_on: object,
    find: Callable[[Trials], T],
    write: Callable[[T, Path], None],
    *,
    executor: Executor,
    progress: SearchProgress,
    overwrite: bool,
) -> tuple[T, Trials]:
    """Search, and put what was found in place of earlier results.

    Args:
        study: its name, kind and files are told in the manifest.
        out: the folder.
        names: every file that the results may have.
        depends_on: plain data of all that the results depend on, but the code.
        find: the search.
        write: leaves the files of what was found in a folder.
        executor: who simulates.
        progress: is told of runs.
        overwrite: whether other results of ours may be replaced.

    Raises:
        StudyError: ``out`` cannot be written or holds what may not be replaced, or a run refused
            its input.
        RunError: a worker was killed, memory ran out, the disk is full. Finished runs are kept.
    """
    started = time.perf_counter()
    place = results_folder(out)
    identity = digest_of([depends_on, code_digest(), sources_digest(SEARCHING)])
    try:
        with claimed(place, Wanted(names, study.name, identity, overwrite)) as work:
            if work.beside:
                progress.note(f"not headroom's, left alone in {place.out}: {some(work.beside)}")
            trials = Trials(work.folder, executor, progress)
            try:
                found = find(trials)
            finally:
                progress.stop()
            write(found, work.new)
            wall_s = round(time.perf_counter() - started, 3)
            publish(work, {**_facts(study, trials), **executor.facts(), "wall_s": wall_s})
    except OSError as error:
        raise ended(error, place.out) from error
    if os.path.lexists(place.work):
        progress.note(f"{shown(place.work)} holds files that are not headroom's; they stay there")
    return found, trials


def _facts(study: Study, trials: Trials) -> Mapping[str, Any]:
    return {
        "kind": study.kind,
        "runs": trials.runs,
        "resumed_runs": trials.resumed,
        "requests": trials.requests,
        "files": {name: file_digest(name) for name in study.workload.files},
        "plugins": plugin_facts(),
        "versions": versions(),
        "code_sha256": code_digest(),
        "machine": machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
