"""Repetitions of a long measurement, kept in a folder, so that it goes on where it ended."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

Row = dict[str, Any]
Of = ParamSpec("Of")


def kept(
    folder: Path | None, name: str, measure: Callable[Of, Row], *given: Of.args, **named: Of.kwargs
) -> Row:
    """Return what ``measure`` says of what it is given, from a file if it was measured before.

    ``folder`` is of one revision and one measurement: nothing in it says how it was made. None:
    nothing is kept.
    """
    if folder is None:
        return measure(*given, **named)
    path = folder / f"{name}.json"
    if path.exists():
        found: Row = json.loads(path.read_text(encoding="utf-8"))
        return found
    row = measure(*given, **named)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(row), encoding="utf-8")
    os.replace(part, path)
    return row
