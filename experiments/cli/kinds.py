"""Studies that are not simulations of serving: run like any other."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.study.document import Loaded, Study
from experiments.study.errors import RunError, StudyError
from experiments.study.kinds import MEASURED, SEARCHES, TABLES, kind_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from experiments.calibrating.measured import MeasuredStudy
    from experiments.texts.page import TableStudy


def check_other(loaded: Loaded) -> "Study | MeasuredStudy | TableStudy":
    """Validate a study of another kind than serving.

    Raises:
        StudyError: everything that is wrong with it.
    """
    from experiments.calibrating.measured import check

    kind = kind_of(loaded)
    if kind in SEARCHES:
        from experiments.planning.kinds import search_of

        return search_of(loaded).study
    if kind == TABLES:
        from experiments.texts.registry import schema_of

        schema: Any = schema_of(loaded)
    else:
        schema = schema_of_kind(kind)
    study: MeasuredStudy | TableStudy = check(schema, loaded)
    return study


def schema_of_kind(kind: str) -> "type[BaseModel]":
    """Return the schema of a kind of ``MEASURED`` or ``SEARCHES``."""
    module, schema = (MEASURED | SEARCHES)[kind]
    found: type[BaseModel] = getattr(import_module(module), schema)
    return found


def run_other(loaded: Loaded, out: str | None, dry_run: bool, overwrite: bool) -> int:
    """Run a study whose kind is not serving; return the exit status.

    Raises:
        StudyError: a mistake in the study, or results that cannot be put in their folder.
    """
    from experiments.running.folder import chosen_folder

    study = check_other(loaded)
    _tell(loaded.notes)
    folder = chosen_folder(out, study.name)
    run = _run_table if kind_of(loaded) == TABLES else _run_measured
    try:
        lines = run(study, None if dry_run else folder, overwrite)
    except RunError as error:  # there are no finished runs that could be kept
        raise StudyError.of(str(error)) from error
    print("\n".join(lines))
    if not dry_run:
        _tell([f"results are in {folder}"])
    return 0


def _run_measured(study: Any, folder: Path | None, overwrite: bool) -> list[str]:
    from experiments.calibrating.measured import run_measured

    if folder is None:
        return [f"{study.name}: {study.kind} of {study.model} on {study.device}; nothing was run"]
    kind = import_module(MEASURED[study.kind][0])
    tell = partial(print, file=sys.stderr)
    return run_measured(study, kind.run, kind.FILES, folder, tell, overwrite).lines


def _run_table(study: Any, folder: Path | None, overwrite: bool) -> list[str]:
    from experiments.texts.writing import lines, run_table

    if folder is None:
        return [f"{study.name}: table {study.table}; nothing was computed"]
    return lines(run_table(study, folder, overwrite))


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
