"""What a study of serving says and a search decides itself: refused, or told, never passed over.

A study of serving that becomes a search keeps what it says of its own runs in its file, so there
the keys are left out with a note. In the file of a search, or as an option, they are a mistake.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from experiments.planning import keys
from experiments.study.document import OPTION, Loaded
from experiments.study.errors import Problem, StudyError, show
from experiments.study.faults import by_line
from experiments.study.keys import dotted
from experiments.study.schema import value_at
from experiments.study.yaml_source import Path

CLOCKS = ("diurnal", "piecewise")
"""Processes that say what happens when: of these a run is as long as the study says."""
LENGTHS: dict[Path, str] = {
    ("workload", "num_requests"): "run_requests",
    ("workload", "duration_s"): "run_requests",
    ("warmup_fraction",): "run_requests",
    ("warmup_s",): "run_requests",
}
"""Where no clock says how long a run is, a search does: by the key of its own that it has."""
LUCK: dict[Path, str] = {("seeds",): "half_width", ("precision",): "half_width"}
WHY = {
    "run_requests": "a search makes its runs as long as their load needs, a tenth of each warm-up",
    "half_width": "a search runs as many seeds as its answer needs",
}
NOT_KNOWN: dict[Path, str] = {
    ("calibration_draws",): (
        "a search of kind capacity is by the calibration as it is, expected 0; kind: plan makes "
        "the spread of draws part of its risk"
    ),
    ("baseline",): "a search compares no points with each other, expected none",
}
Found = tuple[Path, tuple[Path, ...], str]
"""Key, where it stands (in the study, or in rows of its sweep), and what to say of it."""


def left_to_search(
    loaded: Loaded, raw: Mapping[str, Any], usual: Mapping[Path, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return a study without the keys that the search decides, and a note for each.

    Args:
        loaded: where they stand.
        raw: the study, of kind capacity.
        usual: values by key that change nothing, as a resolved study has them.

    Raises:
        StudyError: the file is that of a search itself, or an option gave such a key.
    """
    data = loaded.document.data
    own = isinstance(data, Mapping) and data.get("kind", "serving") == "serving"
    kept, notes, problems = deepcopy(dict(raw)), [], []
    for path, places, text in _found(raw, usual):
        where = [loaded.where(place) for place in places]
        if own and OPTION not in where:
            notes.append(_note(path, text))
            _drop(kept, path)
            continue
        value = f" = {show(value_at(raw, path))}" if path in places else ""
        problems += [
            Problem(at, f"{dotted(path)}{value if place == path else ''}: {text}")
            for place, at in zip(places, where, strict=True)
        ]
    if problems:
        raise StudyError(by_line(problems))
    return kept, notes


def does_not_matter(raw: Mapping[str, Any], usual: Mapping[Path, Any]) -> list[str]:
    """Return a note for each key of a plan that the search decides in its place."""
    return [
        _note(path, text) for path, _, text in _found(raw, usual) if path != ("calibration_draws",)
    ]


def _note(path: Path, text: str) -> str:
    return f"{dotted(path)} does not matter: {text.partition(', expected')[0]}"


def _found(raw: Mapping[str, Any], usual: Mapping[Path, Any]) -> Iterator[Found]:
    for path, text in _all(raw):
        places = []
        value = value_at(raw, path)
        if value is not None and value not in (usual.get(path), "none"):
            places.append(path)
        name = dotted(path)
        for number, row in enumerate(keys.sweep_rows(raw)):
            if name in row:
                in_list = (number,) if isinstance(raw["sweep"], list) else ()
                places.append(("sweep", *in_list, name))
        if places:
            yield path, tuple(places), text


def _all(raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    clock = value_at(raw, ("workload", "trace")) is not None and (
        value_at(raw, ("workload", "arrivals")) is None
    )
    clock |= value_at(raw, ("workload", "clients")) is not None
    clock |= value_at(raw, ("workload", "arrivals", "process")) in CLOCKS
    for path, nearest in (LUCK if clock else LENGTHS | LUCK).items():
        yield path, f"{WHY[nearest]}, expected {nearest} in its place"
    yield from NOT_KNOWN.items()


def _drop(raw: dict[str, Any], path: Path) -> None:
    """Take a key out of a study and its sweep."""
    within: Any = raw
    for key in path[:-1]:
        within = within.get(key, {})
    within.pop(path[-1], None)
    for row in keys.sweep_rows(raw):
        row.pop(dotted(path), None)
