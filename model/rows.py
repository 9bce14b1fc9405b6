"""Kinds by name that are imported when somebody asks for one: a study needs few of them."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar

Kind = TypeVar("Kind")


class Rows(Mapping[str, Kind]):
    """The rows of a registry, by the names that studies use.

    Args:
        places: name to where the kind stands, as ``package.module:name``.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places

    def __getitem__(self, name: str) -> Kind:
        module, _, what = self.places[name].partition(":")
        found: Kind = getattr(import_module(module), what)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
