"""What is made of files that come with the code, kept beside the byte code of the modules.

Checking the tables of ``hardware`` and reading a config.json of the catalogue takes a tenth of a
short study, as pydantic first has to be told what is expected. What comes of it changes with the
code alone, so Python is asked once and remembers, as it does with the modules themselves. A file
that is not of the code, the pydantic and the classes of this process, or is not whole, is made
again; a process whose own files were changed meanwhile leaves none.
"""

import hashlib
import io
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic

from model.sources import ROOT, are_as_imported, sources_digest

Made = TypeVar("Made")

FOLDER = Path(sys.pycache_prefix + str(ROOT) if sys.pycache_prefix else ROOT) / "model/__pycache__"
ROOMS = ("model", "hardware")
"""Whose code and data decide what is made."""
LEFT_S = 3600
"""A file that is being written for longer belongs to a process that was killed."""


def kept(name: str, make: Callable[[], Made], folder: Path = FOLDER) -> Made:
    """Return what ``make`` returns, from where it is kept if it is there.

    Args:
        name: tells it from everything else that is kept; part of a file name.
        make: depends on nothing but the sources of ``ROOMS``; what it returns can be pickled.
        folder: where byte code lies. Where Python may not write any, nothing is kept.
    """
    path = folder / f"{name}.{sys.implementation.cache_tag}.kept"
    with suppress(Exception):  # whatever is wrong with a file, it is made again
        return cast(Made, _read(path))
    made = make()
    if not sys.dont_write_bytecode and all(map(are_as_imported, ROOMS)):
        _write(path, _content(made))
    return made


@cache
def _basis() -> bytes:
    """All that decides what is made."""
    return "\n".join((pydantic.VERSION, *map(sources_digest, ROOMS), "")).encode()


def _read(path: Path) -> object:
    """Return what a file holds, or raise what it may."""
    basis, content = _basis(), path.read_bytes()
    digest, _, rest = content.removeprefix(basis).partition(b"\n")
    if not content.startswith(basis) or _digest(rest) != digest:
        raise ValueError(path)
    shapes, _, pickled = rest.partition(b"\n")
    found = _Unpickler(pickled)
    made: object = found.load()
    if found.shapes() != shapes:
        raise ValueError(path)
    return made


def _content(made: object) -> bytes:
    """A file: its basis, a digest of the rest, the shapes of the classes in it, what was made."""
    pickled = pickle.dumps(made, pickle.HIGHEST_PROTOCOL)
    found = _Unpickler(pickled)
    found.load()
    rest = found.shapes() + b"\n" + pickled
    return _basis() + _digest(rest) + b"\n" + rest


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


class _Unpickler(pickle.Unpickler):
    """Remembers the classes that it meets, and their fields."""

    def __init__(self, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self.met: list[str] = []

    def find_class(self, module: str, name: str, /) -> Any:
        """Return what is called so."""
        found = super().find_class(module, name)
        of_models: Iterable[str] = getattr(found, "model_fields", ())
        fields: Iterable[str] = getattr(found, "__dataclass_fields__", of_models)
        self.met.append(" ".join((module, name, *fields)))
        return found

    def shapes(self) -> bytes:
        """Return one line that tells the classes so far, as this process has them."""
        return "; ".join(self.met).encode()


def _write(path: Path, content: bytes) -> None:
    """Write a file as a whole, or not at all; remove what killed processes left beside it."""
    beside = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        for left in path.parent.glob(f"{path.name}.*"):
            if left.stat().st_mtime < time.time() - LEFT_S:
                left.unlink(missing_ok=True)
