"""From ``sweep`` to settings: which keys a point changes, and to what."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from experiments.study.errors import show
from experiments.study.keys import is_inside, key_path, put
from experiments.study.schema import value_at
from experiments.study.yaml_source import Path, plain
from model.dataclass import dataclass
from model.nearest import closest

MOST_POINTS = 10_000
"""Of one sweep: more rows than anybody compares, and more than can be checked in a minute."""

TELLS = {
    "name": "", "gpu": None, "replicas": 1, "role": "serve", "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1, "data_parallel_size": 1,
}  # fmt: skip
"""Which pool it is: keys, and the value that need not be said."""
Known = Callable[[], Sequence[str]]
Sections = tuple[str, ...]
SWEEPABLE: Sections = (
    "model", "cluster", "engine", "calibration", "workload", "slo", "warmup_fraction", "warmup_s",
    "stop_s",
)  # fmt: skip
"""Sections that a sweep may change; seeds are for every point alike."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of a sweep: values by dotted key, and where each was written."""

    values: dict[str, Any]
    origins: dict[str, Path]

    def label(self) -> str:
        """Return ``engine.block_size=16, cluster.replicas=2``."""
        return ", ".join(f"{key}={show(cell(value))}" for key, value in self.values.items())


def cell(value: Any) -> Any:
    """Return a swept value as one cell of a table: scalars as they are, the rest as JSON.

    Pools are told in words: ``1 x h100-sxm prefill + 3 x h100-sxm decode``, and what else they say
    behind each, ``2 x l40s small (role=serve, engine.max_num_seqs=64)``.
    """
    if not isinstance(value, dict | list):
        return value
    pools = [_pool(each) for each in value] if isinstance(value, list) else []
    return " + ".join(pools) if pools and all(pools) else json.dumps(value)


def in_brief(value: Any) -> Any:
    """Return pools without what versions, GPUs and defaults decide, other values as they are."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(pool, Mapping) and "gpu" in pool for pool in value):
        return value
    return [
        {key: said for key, said in pool.items() if key in TELLS and said != TELLS[key]}
        for pool in value
    ]


def _pool(value: Any) -> str:
    """Tell one pool in words; empty if it is none, or its GPU is described at length."""
    if not isinstance(value, Mapping) or not isinstance(value.get("gpu"), str):
        return ""
    who = f"{value.get('replicas', 1)} x {value['gpu']}"
    name = value.get("name")
    who = who if name is None else f"{who} {name}"
    rest = {key: each for key, each in value.items() if key not in ("name", "gpu", "replicas")}
    if name is not None and rest.get("role") == name:
        del rest["role"]
    more = ", ".join(f"{key}={each}" for key, each in _flat(rest))
    return f"{who} ({more})" if more else who


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every value by its dotted key, as JSON but for texts."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value)


def expand(
    sweep: Any, known: Known = tuple, sections: Sections = SWEEPABLE
) -> tuple[list[Setting], list[tuple[Path, str]]]:
    """Return the points of a sweep in written order, the last key changing fastest, and faults.

    An empty mapping, or none, is one point that changes nothing.

    Args:
        sweep: what a study says.
        known: gives all keys of a study, from which the one is told that was meant.
        sections: of which keys may be changed.
    """
    if sweep is None or sweep == {}:
        return [Setting({}, {})], []
    if isinstance(sweep, Mapping):
        problems = _key_problems(list(sweep), ("sweep",), known, sections)
        settings, problems = ([], problems) if problems else _grid(sweep)
    elif isinstance(sweep, list) and sweep:
        settings, problems = _points(sweep, known, sections)
    elif isinstance(sweep, list):
        return [], [(("sweep",), "expected at least one point; for none write sweep: {}")]
    else:
        return [], [(("sweep",), "expected a mapping of dotted keys to lists, or a list of points")]
    return settings, problems or _repeated(settings)


def _grid(sweep: Mapping[str, Any]) -> tuple[list[Setting], list[tuple[Path, str]]]:
    problems: list[tuple[Path, str]] = []
    for key, values in sweep.items():
        if not isinstance(values, list):
            problems.append((("sweep", key), f"expected a list of values, e.g. [{cell(values)}]"))
        elif not values:
            problems.append((("sweep", key), "expected at least one value"))
    if problems:
        return [], problems
    if fault := _too_many(sweep):
        return [], [fault]
    choices = [
        [(key, value, ("sweep", key, index)) for index, value in enumerate(values)]
        for key, values in sweep.items()
    ]
    return [
        Setting({key: value for key, value, _ in chosen}, {key: path for key, _, path in chosen})
        for chosen in product(*choices)
    ], []


def _too_many(sweep: Mapping[str, Any]) -> tuple[Path, str] | None:
    """Count the points of a grid, without making them."""
    sizes = [len(values) for values in sweep.values()]
    if prod(sizes) <= MOST_POINTS:
        return None
    product = " x ".join(map(str, sizes))
    return ("sweep",), (
        f"{product} = {prod(sizes):,} points, expected at most {MOST_POINTS:,}: give fewer values, "
        "or a list of points"
    )


def _points(
    sweep: list[Any], known: Known, sections: Sections
) -> tuple[list[Setting], list[tuple[Path, str]]]:
    settings: list[Setting] = []
    problems: list[tuple[Path, str]] = []
    if len(sweep) > MOST_POINTS:
        return [], [(("sweep",), f"{len(sweep):,} points, expected at most {MOST_POINTS:,}")]
    for index, row in enumerate(sweep):
        if not isinstance(row, Mapping) or not row:
            problems.append((("sweep", index), "expected a mapping of dotted keys to values"))
            continue
        problems += _key_problems(list(row), ("sweep", index), known, sections)
        settings.append(Setting(dict(row), {key: ("sweep", index, key) for key in row}))
    return settings, problems


def _key_problems(
    keys: list[str], path: Path, known: Known, sections: Sections
) -> list[tuple[Path, str]]:
    """Keys outside the sections that can be swept, and keys one inside the other."""
    problems: list[tuple[Path, str]] = []
    for key in keys:
        if not all(key.split(".")):
            problems.append(((*path, key), "expected a dotted key, e.g. engine.block_size"))
            continue
        if key_path(key)[0] not in sections:
            text = _meant(key, known(), sections)
            problems.append(((*path, key), f"cannot be swept{text}"))
        inside = [other for other in keys if is_inside(key, other)]
        problems += [((*path, key), f"is part of {other}, which is swept, too") for other in inside]
    return problems


def _meant(key: str, known: Sequence[str], sections: Sections) -> str:
    """Say which key of ``sections`` was meant: one that ends like it, or a misspelt section."""
    here = [each for each in known if str(key_path(each)[0]) in sections]
    ends = [each for each in here if each.endswith(f".{key}")]
    begins = [each for each in here if f".{key}_" in f".{each}" and each.count(".") < 3]
    first, *below = key.split(".")
    like = closest(first, sections)
    if like and not ends:
        ends = [".".join((like, *below))]
    hint = f"; did you mean {min(ends or begins, key=len)}? E" if ends or begins else ", e"
    return f"{hint}xpected a key of {', '.join(sections)}"


def _repeated(settings: list[Setting]) -> list[tuple[Path, str]]:
    seen: dict[str, int] = {}
    problems: list[tuple[Path, str]] = []
    for number, setting in enumerate(settings):
        text = json.dumps(_whole(setting.values), sort_keys=True, default=str)
        if text in seen:
            where = next(iter(setting.origins.values()))
            problems.append(
                (where, f"points {seen[text] + 1} and {number + 1} are the same: {setting.label()}")
            )
        seen.setdefault(text, number)
    return problems


def _whole(value: Any) -> Any:
    """The same, with 2 for 2.0: one number, however it is written."""
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def substitute(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``raw`` without its sweep, every dotted key of ``values`` set in it.

    Raises:
        StudyError: a key names a place of a list that is shorter.
    """
    copy: dict[str, Any] = plain({key: raw[key] for key in raw if key != "sweep"})
    for key, value in values.items():
        put(copy, key_path(key), value, make=True)
    return copy


def fill_missing(
    raw: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Path]]:
    """Return ``raw`` with those of ``values`` that it lacks, and the paths that were filled."""
    absent = {key: value for key, value in values.items() if not _has(raw, key_path(key))}
    filled = substitute(raw, absent)
    if "sweep" in raw:
        filled["sweep"] = raw["sweep"]
    return filled, [key_path(key) for key in absent]


def _has(raw: Mapping[str, Any], path: Path) -> bool:
    parent = value_at(raw, path[:-1])
    return not isinstance(parent, Mapping | None) or (
        isinstance(parent, Mapping) and path[-1] in parent
    )
