"""Versions of an engine: their order, and values that hold from one on."""

import re
from functools import lru_cache
from typing import Annotated, Generic, TypeVar

from pydantic import ConfigDict, Field

from model.dataclass import dataclass

Value = TypeVar("Value")
Version = tuple[int, ...]
"""(0, 15, 1); empty for no version."""


@lru_cache(maxsize=1024)
def version_key(version: str) -> Version:
    """Return the first dotted numbers in a version, to compare it with others; () without any."""
    found = re.search(r"\d+(?:\.\d+)*", version if "." not in version else _dotted(version))
    return tuple(map(int, found[0].split("."))) if found else ()


def _dotted(version: str) -> str:
    """The first of its words that holds a dotted number: dates beside it are none."""
    found = re.search(r"\d+(?:\.\d+)+", version)
    return found[0] if found else version


@dataclass(frozen=True)
class Dated(Generic[Value]):
    """A value that changed with versions."""

    source: str
    """Files of the engine's source, or logs, that show it."""
    since: Annotated[dict[str, Value], Field(min_length=1)]
    """First version that a value holds for, ascending, to the value."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def at(self, version: Version) -> Value:
        """Return what holds for a version; before the first one, the first."""
        values = list(self.since.values())
        held = [value for since, value in self.since.items() if version_key(since) <= version]
        return (held or values[:1])[-1]
