"""Dotted keys of a study, such as ``cluster.pools[0].replicas``, and what they stand for."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

from experiments.study.errors import StudyError, show
from experiments.study.yaml_source import Path

_PART = re.compile(r"([^\[\]]+)((?:\[\d+\])*)$")
"""A word, and places in lists."""


@lru_cache(maxsize=4096)
def key_path(key: str) -> Path:
    """Return ``a.b[0].c`` as ``("a", "b", 0, "c")``; what is no such key keeps its brackets."""
    path: list[str | int] = []
    for word in key.split("."):
        found = _PART.match(word)
        path += [word] if found is None else [found[1], *map(int, re.findall(r"\d+", found[2]))]
    return tuple(path)


def dotted(path: Iterable[str | int]) -> str:
    """Return ``("a", "b", 0)`` as ``a.b[0]``; what is no key of ours may be long, and is cut."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{show(part)}" for part in path)
    return text.removeprefix(".")


def words(path: Path) -> tuple[str, ...]:
    """Return a path without the places in lists."""
    return tuple(part for part in path if isinstance(part, str))


def is_inside(key: str, other: str) -> bool:
    """Tell whether a key is part of another one, and not that one itself."""
    path, outer = key_path(key), key_path(other)
    return len(path) > len(outer) and path[: len(outer)] == outer


def put(data: dict[str, Any], path: Path, value: Any, *, make: bool = False) -> None:
    """Set a value in nested mappings and lists; mappings that are missing are made.

    ``make``: also where something else stands in the place of a mapping.

    Raises:
        StudyError: something on the way has no keys, or no such place.
    """
    here: Any = data
    for depth, part in enumerate(path[:-1], start=1):
        below, child = path[depth], _child(here, part)
        fits = isinstance(child, Mapping) or (isinstance(below, int) and isinstance(child, list))
        anew = make and not isinstance(child, list)
        if not fits and (anew or (child is None and isinstance(below, str))):
            child = here[part] = {}
        elif not fits and isinstance(below, str):
            key = dotted(path[:depth])
            if isinstance(child, list):
                raise StudyError.of(f"{key} is a list, expected {_place(child, key, below)}")
            raise StudyError.of(f"{key} = {show(child)} has no keys to set")
        if isinstance(below, int) and not make and not isinstance(child, list):
            raise _no_place(child, path[: depth + 1])
        if isinstance(below, int) and isinstance(child, list) and below >= len(child):
            raise _no_place(child, path[: depth + 1])
        here = child
    here[path[-1]] = deepcopy(value)


def _child(here: Any, part: str | int) -> Any:
    return here.get(part) if isinstance(here, Mapping) else here[part]


def _place(found: list[Any], key: str, word: str) -> str:
    """The place in a list that a word names or counts, or how one is written."""
    names = [each.get("name") if isinstance(each, Mapping) else None for each in found]
    if word in names or (word.isdecimal() and int(word) < len(found)):
        return f"{key}[{names.index(word) if word in names else int(word)}] instead of {key}.{word}"
    return f"a place in it: {key}[0]"


def _no_place(found: object, path: Path) -> StudyError:
    count = f"a list of {len(found)}" if isinstance(found, list) else show(found)
    return StudyError.of(
        f"{dotted(path)} is not there: {dotted(path[:-1])} is {count}, expected a place in a list, "
        "counted from 0"
    )
