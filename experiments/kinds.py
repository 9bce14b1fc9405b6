"""Studies that are not simulations of serving: found by their ``kind``, run like any other."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.errors import Problem, StudyError, nearest, show
from experiments.study import Loaded

MEASURED = {
    "decoder_vs_simulation": ("experiments.decoder_vs_simulation", "DecoderStudy"),
    "kv_cache_latency": ("experiments.kv_cache_latency", "KvCacheStudy"),
}
"""Kinds that run a real decoder: the module with ``run``, and the schema in it."""

KINDS = ("serving", *MEASURED)


def run_other(loaded: Loaded, out: str | None, dry_run: bool) -> int:
    """Run a study whose kind is not serving; return the exit status.

    Raises:
        StudyError: an unknown kind, a mistake in the study, an output that cannot be written.
    """
    kind = loaded.raw.get("kind")
    if not isinstance(kind, str) or kind not in MEASURED:
        text = f"kind = {show(kind)}: expected one of {', '.join(KINDS)}{nearest(kind, KINDS)}"
        raise StudyError([Problem(loaded.where(("kind",)), text), *loaded.document.problems])
    from experiments.measured import check, run_measured

    module_name, schema_name = MEASURED[kind]
    module: Any = import_module(module_name)
    study = check(getattr(module, schema_name), loaded)
    _tell(loaded.notes)
    if dry_run:
        print(f"{study.name}: {kind} of {study.model} on {study.device}; nothing was run")
        return 0
    folder = Path(out) if out is not None else Path("results") / study.name
    findings = run_measured(study, module.run, folder, lambda line: _tell([line]))
    print("\n".join(findings.lines))
    _tell([f"results are in {folder}"])
    return 0


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
