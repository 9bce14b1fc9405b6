"""Studies that are not simulations of serving: found by their ``kind``, run like any other."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import Problem, StudyError, nearest, show
from experiments.study import Loaded

if TYPE_CHECKING:
    from experiments.measured import MeasuredStudy

MEASURED = {
    "decoder_vs_simulation": ("experiments.decoder_vs_simulation", "DecoderStudy"),
    "kv_cache_latency": ("experiments.kv_cache_latency", "KvCacheStudy"),
}
"""Kinds that run a real decoder: the module with ``run``, and the schema in it."""

KINDS = ("serving", *MEASURED)


def kind_of(loaded: Loaded) -> str:
    """Return what kind of study was read; serving when it does not say.

    Raises:
        StudyError: an unknown kind; names the nearest.
    """
    kind = loaded.raw.get("kind", "serving")
    if kind in KINDS:
        return str(kind)
    text = f"kind = {show(kind)}: expected one of {', '.join(KINDS)}{nearest(kind, KINDS)}"
    raise StudyError([Problem(loaded.where(("kind",)), text), *loaded.document.problems])


def check_other(loaded: Loaded) -> "MeasuredStudy":
    """Validate a study of another kind than serving.

    Raises:
        StudyError: everything that is wrong with it.
    """
    from experiments.measured import MeasuredStudy, check

    module_name, schema_name = MEASURED[kind_of(loaded)]
    schema: type[MeasuredStudy] = getattr(import_module(module_name), schema_name)
    return check(schema, loaded)


def run_other(loaded: Loaded, out: str | None, dry_run: bool) -> int:
    """Run a study whose kind is not serving; return the exit status.

    Raises:
        StudyError: a mistake in the study, or an output that cannot be written.
    """
    from experiments.measured import run_measured

    kind = kind_of(loaded)
    study = check_other(loaded)
    _tell(loaded.notes)
    if dry_run:
        print(f"{study.name}: {kind} of {study.model} on {study.device}; nothing was run")
        return 0
    folder = Path(out) if out is not None else Path("results") / study.name
    compare = import_module(MEASURED[kind][0]).run
    findings = run_measured(study, compare, folder, lambda line: _tell([line]))
    print("\n".join(findings.lines))
    _tell([f"results are in {folder}"])
    return 0


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
