"""Registries whose kinds are imported when they are asked for."""

import sys

import pytest

from model.families.registry import FAMILIES
from model.quantization.methods import READERS
from model.rows import Rows
from sim.routers.registry import ROUTERS
from sim.routers.router import Router


def test_a_kind_is_imported_when_it_is_asked_for() -> None:
    sys.modules.pop("this", None)
    rows = Rows[str]({"zen": "this:s", "none": "no_such_module:thing"})
    assert list(rows) == ["zen", "none"]
    assert len(rows) == 2
    assert "zen" in rows
    assert "this" not in rows
    assert "this" not in sys.modules
    assert rows["zen"].startswith("Gur Mra")
    with pytest.raises(KeyError):
        rows["nothing"]
    with pytest.raises(ModuleNotFoundError):
        rows["none"]


def test_every_row_names_something_that_is_there() -> None:
    assert all(issubclass(kind, Router) for kind in ROUTERS.values())
    assert all(callable(reader) for reader in READERS.values())
    assert all(family.class_name for family in FAMILIES.values())
