"""``--set key=value``, and the paths of files that a study names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.study.errors import Problem, StudyError
from experiments.study.keys import dotted, is_inside, key_path, put, words
from experiments.study.yaml_source import Path as KeyPath
from experiments.study.yaml_source import parse_yaml, plain
from hardware.calibration import calibration_names
from hardware.engines.constants import AUTO, engine_calibration_names
from model.dataclass import dataclass
from model.spec import catalogue

MOST_SHOWN = 200
"""Characters of a setting that a message repeats."""
REPLACED_BY_TRACE = ("arrivals", "lengths", "num_requests", "duration_s", "clients")
"""Keys of a synthetic workload, which ``--set workload.trace=...`` puts out of force."""


@dataclass(frozen=True, slots=True)
class Override:
    """One ``--set``."""

    path: KeyPath
    value: Any
    text: str
    """As it was written."""


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Read ``key=value`` settings, the value as YAML.

    ``sweep.engine.block_size=[16, 32]`` sets one key of the sweep.

    Raises:
        StudyError: every setting without ``=``, without a key, or whose value is not YAML; and
            every one that would undo another one before it.
    """
    found: list[Override] = []
    problems: list[Problem] = []
    for text in texts:
        key, equals, value = text.partition("=")
        where = f"--set {text[:MOST_SHOWN]}"
        if not equals or not all(key.strip().split(".")):
            problems.append(Problem(where, "expected KEY=VALUE, e.g. engine.block_size=32"))
            continue
        try:
            document = parse_yaml(value, where)
        except StudyError as error:
            problems += [Problem(where, problem.text) for problem in error.problems]
            continue
        problems += [Problem(where, problem.text) for problem in document.problems]
        given = override(key.strip(), document.data, text)
        undone = next((one for one in found if _is_below(one.path, given.path)), None)
        if undone is not None:
            what = f"--set {undone.text[:MOST_SHOWN]} came before, expected each key once"
            problems.append(Problem(where, what))
        found.append(given)
    if problems:
        raise StudyError(problems)
    return found


def _is_below(path: KeyPath, above: KeyPath) -> bool:
    """Whether a key is another one, or part of it."""
    return path[: len(above)] == above


def given_overrides(settings: Mapping[str, Any] | None) -> list[Override]:
    """Return the settings of a program: dotted keys and values.

    Raises:
        TypeError: no mapping, or a key that is no text.
        StudyError: a value is nested too deeply.
    """
    if not isinstance(settings, Mapping | None):
        raise TypeError(f"settings = {settings!r}, expected a mapping of dotted keys to values")
    if strange := [key for key in settings or {} if not isinstance(key, str)]:
        raise TypeError(f"settings: {strange[0]!r} is no key, expected a text: engine.block_size")
    return [
        override(key, plain(value), f"{key}={value}") for key, value in (settings or {}).items()
    ]


def override(key: str, value: Any, text: str) -> Override:
    """Return one setting; paths in its value become absolute from the current folder."""
    path = key_path(key)
    if path[0] == "sweep" and len(path) > 1:
        swept = path[1:]
        return Override(("sweep", dotted(swept)), resolve_paths(value, Path.cwd(), swept), text)
    return Override(path, resolve_paths(value, Path.cwd(), path), text)


def resolve_paths(value: Any, base: Path, path: KeyPath = ()) -> Any:
    """Copy ``value``, the paths of existing files in it made absolute from ``base``.

    A model or calibration is a path when it is written like one, or is no name of the catalogue and
    exists; other words are names.
    """
    if isinstance(value, Mapping):
        in_sweep = path == ("sweep",)
        return {
            key: resolve_paths(item, base, key_path(key) if in_sweep else (*path, key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [resolve_paths(item, base, path) for item in value]
    if isinstance(value, str) and value and _names_a_file(value, base, path):
        return str((base / Path(value).expanduser()).resolve())
    return value


def _names_a_file(value: str, base: Path, path: KeyPath) -> bool:
    if path[:1] == ("workload",) and path[-1] in ("trace", "path"):
        return True
    if words(path) not in (("model",), ("calibration",), ("cluster", "pools", "calibration")):
        return False
    if value.startswith((".", "/", "~")) or value.endswith((".json", ".yaml", ".yml")):
        return True
    # A name of the catalogue wins over a folder that happens to have the same name.
    prices = (AUTO, *calibration_names(), *engine_calibration_names(), "datasheet")
    names = catalogue() if path == ("model",) else prices
    return value.lower() not in names and (base / value).exists()


def apply_overrides(
    raw: dict[str, Any], overrides: Sequence[Override]
) -> tuple[list[str], list[Problem]]:
    """Set every override in ``raw``, the sweep first; return notes for the reader, and problems.

    A key that is set is not swept any more. A trace that is set replaces the synthetic workload.
    """
    notes: list[str] = []
    problems: list[Problem] = []
    given = {override.path for override in overrides}
    for override in sorted(overrides, key=lambda override: override.path[0] != "sweep"):
        if override.path == ("workload", "trace") and override.value is not None:
            notes += _make_room_for_trace(raw, given)
        try:
            _refuse_list_of_points(raw, override.path)
            put(raw, override.path, override.value)
            if override.path[0] != "sweep":
                notes += _stop_sweeping(raw, override.path)
        except StudyError as error:
            where = f"--set {override.text[:MOST_SHOWN]}"
            problems += [Problem(where, item.text) for item in error.problems]
    return notes, problems


def _refuse_list_of_points(raw: Mapping[str, Any], path: KeyPath) -> None:
    if path[0] == "sweep" and len(path) > 1 and isinstance(raw.get("sweep"), list):
        raise StudyError.of(
            "the study's sweep is a list of points, which cannot be extended by a key, expected "
            "the whole of it: sweep=[{KEY: VALUE, ...}, ...] or sweep={KEY: [VALUE, ...], ...}"
        )


def _make_room_for_trace(raw: dict[str, Any], given: set[KeyPath]) -> list[str]:
    workload = raw.get("workload")
    kept = {path[1] for path in given if path[0] == "workload" and len(path) > 1}
    gone = [
        key
        for key in REPLACED_BY_TRACE
        if isinstance(workload, dict) and key in workload and key not in kept
    ]
    for key in gone:
        del raw["workload"][key]
    if not gone:
        return []
    names = ", ".join(f"workload.{key}" for key in gone)
    unswept = _drop_from_sweep(raw, tuple(f"workload.{key}" for key in gone))
    return [
        f"the trace replaces {names} of the study",
        *(f"{key} is not swept: the trace replaces it" for key in unswept),
    ]


def _stop_sweeping(raw: dict[str, Any], path: KeyPath) -> list[str]:
    """Take a key that was set out of the sweep, which would silently win over it."""
    key = dotted(path)
    for row in _rows(raw):
        for swept in row:
            if is_inside(key, swept):
                raise StudyError.of(f"the study sweeps {swept}: set sweep as well, e.g. sweep={{}}")
    return [f"{swept} is set, so it is not swept" for swept in _drop_from_sweep(raw, (key,), ())]


def _rows(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The mappings of a sweep: a grid's one, or a list's points."""
    sweep = raw.get("sweep")
    return [row for row in (sweep if isinstance(sweep, list) else [sweep]) if isinstance(row, dict)]


def _drop_from_sweep(
    raw: dict[str, Any], keys: tuple[str, ...], sections: tuple[str, ...] | None = None
) -> list[str]:
    """Remove keys, and what is below ``sections`` (the keys, by default), from the sweep.

    Points of a list that are equal after that become one. Returns what was removed.
    """
    above = keys if sections is None else sections
    gone: dict[str, None] = {}
    for row in _rows(raw):
        inside = [key for key in row if any(is_inside(key, section) for section in above)]
        for key in [key for key in row if key in keys or key in inside]:
            del row[key]
            gone[key] = None
    if gone and isinstance(raw["sweep"], list):
        points = [row for row in raw["sweep"] if row != {}]
        raw["sweep"] = [row for at, row in enumerate(points) if row not in points[:at]] or {}
    return list(gone)
