"""Finds what is wrong with a study and says it: where, which key, which point."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from experiments.study import calibrations
from experiments.study.document import OPTION, Loaded, Study, validate
from experiments.study.errors import Problem, StudyError, show
from experiments.study.grid import Setting, substitute
from experiments.study.keys import dotted, key_path
from experiments.study.schema import UNKNOWN, all_keys, value_at
from experiments.study.yaml_source import Path
from hardware.gpu import load_gpu
from model.spec import load_spec

Fault = tuple[Path, str]
"""Where in the data, and what is wrong."""


def check(source: Mapping[str, Any], setting: Setting) -> tuple[Study | None, list[Fault]]:
    """Validate one point; only names that the sweep changes are looked up again."""
    try:
        raw = substitute(source, setting.values)
    except StudyError:
        return None, [_misplaced(source, setting.values)]
    study, faults = validate(raw)
    touched = {key_path(key)[0] for key in setting.values}
    return study, merged(faults, references(raw, touched))


def _misplaced(source: Mapping[str, Any], values: Mapping[str, Any]) -> Fault:
    """The first key that cannot be set, and why."""
    raw = source
    for key, value in values.items():
        try:
            raw = substitute(raw, {key: value})
        except StudyError as error:
            return key_path(key), error.problems[0].text
    raise AssertionError("every key can be set")


def merged(faults: list[Fault], more: list[Fault]) -> list[Fault]:
    """Add faults at paths that have none yet."""
    taken = {path for path, _ in faults}
    return [*faults, *(fault for fault in more if fault[0] not in taken)]


def references(raw: Mapping[str, Any], within: Collection[object] | None = None) -> list[Fault]:
    """Names that no catalogue has, in data that need not be valid otherwise.

    Looked up are those under some first keys, or all.
    """
    found: list[Fault] = []
    lookups = (
        (("model",), str, load_spec),
        *(((*path, "gpu"), str | dict, load_gpu) for path in _pool_paths(raw)),
        *(
            (path, str, calibrations.check_calibration)
            for path in (("calibration",), *((*at, "calibration") for at in _pool_paths(raw)))
        ),
    )
    for path, kind, load in lookups:
        if within is not None and path[0] not in within:
            continue
        value = value_at(raw, path)
        if not isinstance(value, kind) or calibrations.names_calibrated(value):
            continue
        try:
            load(value)
        except ValueError as error:
            found += [_below(path, line) for line in str(error).splitlines()]
    return found


def _pool_paths(raw: Mapping[str, Any]) -> list[Path]:
    """Where the keys of each pool stand: in a list of them, or in the cluster itself."""
    pools = value_at(raw, ("cluster", "pools"))
    places = range(len(pools)) if isinstance(pools, list) else ()
    return [("cluster",), *(("cluster", "pools", place) for place in places)]


def _below(path: Path, line: str) -> Fault:
    """Read ``gpu: peak_flops_per_s.bf16 = 0: Input ...`` as a fault of the field in the mapping."""
    field = re.match(rf"{path[-1]}: ([\w.]+)(?: = .*?)?: (.*)", line)
    if field is None:
        return path, line
    return (*path, *field[1].split(".")), field[2].replace("Input should be ", "expected ", 1)


def _text(raw: object, fault: Fault) -> str:
    """Say ``key = value: what is wrong``, unless the message names the key already."""
    path, message = fault
    key, value = dotted(path), value_at(raw, path)
    if not path:
        return message
    for name in (key, str(path[-1])):
        if message.startswith((f"{name}(=", f"{name} = ")):
            return key + message[len(name) :]
    if value is None or isinstance(value, dict):
        return f"{key}: {message}"
    return f"{key} = {show(value)}: {message}"


def problem(loaded: Loaded, raw: object, fault: Fault) -> Problem:
    """Turn a fault of the base study into a problem with its place."""
    return Problem(loaded.where(fault[0]), _text(raw, fault))


def point_problems(
    loaded: Loaded,
    settings: list[Setting],
    faults: list[list[Fault]],
    known: list[Fault],
    what: str = "point",
) -> list[Problem]:
    """Faults that the sweep brings in, each at the first point (or ``what`` it is) showing it."""
    problems: dict[Problem, list[int]] = {}
    before = set(known)
    for number, (setting, found) in enumerate(zip(settings, faults, strict=True), start=1):
        raw = substitute({}, setting.values)
        for fault in found:
            if fault in before:
                continue
            where = loaded.where(_origin(setting, fault[0]))
            strange = fault[1].startswith(UNKNOWN)  # whatever its values are
            text = f"{dotted(fault[0])}: {fault[1]}" if strange else _text(raw, fault)
            problems.setdefault(Problem(where, text), []).append(number)
    return [at_points(found, numbers, settings, what) for found, numbers in problems.items()]


def _origin(setting: Setting, path: Path) -> Path:
    """Where in the file the part of a setting stands that ``path`` is about."""
    for key, origin in setting.origins.items():
        swept = key_path(key)
        if path[: len(swept)] == swept or swept[: len(path)] == path:
            return origin
    return path


def at_points(
    problem: Problem, numbers: list[int], settings: list[Setting], what: str = "point"
) -> Problem:
    """Name the first point of those that share a problem, and count the others."""
    first = numbers[0]
    label = settings[first - 1].label()
    if not label:
        return problem
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    return Problem(problem.where, f"{what} {first} ({label}){more}: {problem.text}")


def where_named(loaded: Loaded, setting: Setting, message: str) -> str:
    """Say where the file or key stands that a message of another room is about.

    Of several keys that it names, one that the sweep or ``--set`` changed is to blame before one of
    the file. A message that names nothing that is written down has no line.
    """
    for path in _files(loaded.raw.get("workload"), ("workload",), message):
        return loaded.where(path)
    named = list(_named(substitute(loaded.raw, setting.values), message.split("\n", 1)[0]))
    places = [(path, _origin(setting, path)) for path in named]
    swept = [loaded.where(origin) for path, origin in places if origin != path]
    written = [loaded.where(path) for path in named if loaded.has(path)]
    changed = [place for place in written if place == OPTION]
    return next(iter([*swept, *changed, *written]), loaded.document.label)


def _named(raw: Mapping[str, Any], line: str) -> list[Path]:
    """Paths of the keys that a line names, and of the model and GPU that it names, in its order."""
    found: list[tuple[int, Path]] = []
    keys = _keys_of_pool(all_keys(Study, raw), raw, line)
    for match in re.finditer(r"([a-z_]+(?:\.[a-z_]+)*)(?: = |\(=)|\bset ([a-z_]+): ", line):
        word = match[1] or match[2]
        same = [key for key in keys if key == word or key.endswith(f".{word}")]
        found += [(match.start(), key_path(key)) for key in same]
    for path, name in _names(raw):
        at = re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", line)
        found += [(at.start(), path)] if at else []
    return [path for _, path in sorted(found, key=lambda one: one[0])]


def _keys_of_pool(keys: list[str], raw: Mapping[str, Any], line: str) -> list[str]:
    """Without those of other pools than the one that a line begins with, whose own go first."""
    named, pools = re.match(r"pool ([\w.-]+): ", line), value_at(raw, ("cluster", "pools"))
    own = ""
    for place, pool in enumerate(pools if isinstance(pools, list) else ()):
        name = pool.get("name", f"pool{place + 1}") if isinstance(pool, Mapping) else ""
        own = f"cluster.pools[{place}]." if named and named[1] == name else own
    rest = [key for key in keys if "[" not in key]
    return [*(key for key in keys if own and key.startswith(own)), *rest]


def _names(raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What messages call the model and the GPU of a study."""
    with suppress(ValueError):
        yield ("model",), load_spec(raw["model"]).name
    with suppress(ValueError):
        for path in _pool_paths(raw):
            gpu = value_at(raw, (*path, "gpu"))
            if isinstance(gpu, str | dict) and not calibrations.names_calibrated(gpu):
                yield (*path, "gpu"), load_gpu(gpu).name


def _files(value: object, path: Path, message: str) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _files(item, (*path, key), message)
    elif isinstance(value, str) and path[-1] in ("trace", "path") and value in message:
        yield path


def by_line(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems by their line in the file; those of options go first."""

    def line(problem: Problem) -> int:
        """Return the line of a problem; 0 for one of an option."""
        _, _, number = problem.where.rpartition(":")
        return int(number) if number.isdecimal() else 0

    return sorted(problems, key=line)
