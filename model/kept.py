"""What is made of files that come with the code, kept beside the byte code of the modules.

Checking the tables of ``hardware`` and reading a config.json of the catalogue takes a tenth of a
short study, as pydantic first has to be told what is expected. What comes of it changes with the
code alone, so Python is asked once and remembers, as it does with the modules themselves. A file
that is not of this code, this pydantic and this Python is made again.
"""

import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import pydantic

from model.sources import ROOT, sources_digest

Made = TypeVar("Made")

FOLDER = ROOT / "model" / "__pycache__"
ROOMS = ("model", "hardware")
"""Whose code and data decide what is made."""


def kept(name: str, make: Callable[[], Made], folder: Path = FOLDER) -> Made:
    """Return what ``make`` returns, from where it is kept if it is there.

    Args:
        name: tells it from everything else that is kept; part of a file name.
        make: depends on nothing but the sources of ``ROOMS``; what it returns can be pickled.
        folder: where byte code lies. Where Python may not write any, nothing is kept.
    """
    path = folder / f"{name}.{sys.implementation.cache_tag}.kept"
    basis = _basis()
    with suppress(OSError, EOFError, pickle.UnpicklingError):
        content = path.read_bytes()
        if content.startswith(basis):
            return cast(Made, pickle.loads(content[len(basis) :]))
    made = make()
    if not sys.dont_write_bytecode:
        _write(path, basis + pickle.dumps(made, pickle.HIGHEST_PROTOCOL))
    return made


@cache
def _basis() -> bytes:
    """All that decides what is made."""
    return "\n".join((pydantic.VERSION, *map(sources_digest, ROOMS), "")).encode()


def _write(path: Path, content: bytes) -> None:
    """Write a file as a whole, or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        beside.write_bytes(content)
        os.replace(beside, path)
