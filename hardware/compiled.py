"""Whether the rooms that every simulated step goes through run compiled or as plain Python.

``setup.py`` compiles them where a compiler is there, and notes the digests of the sources that it
compiled. They run compiled only if all of these sources are still the same: both give the same
bytes, and what runs is always what the sources say. ``HEADROOM_PURE=1`` in the environment asks for
plain Python.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTE = ROOT / "hardware" / "compiled.sha256"
"""Digests of the compiled sources, by path from the root."""


def digests(paths: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Return the SHA-256 of each source; ``pathlib`` would take as long as reading them does."""
    found = {}
    for path in paths:
        with open(f"{root}/{path}", "rb", buffering=0) as file:
            found[path] = hashlib.sha256(file.read()).hexdigest()
    return found


def runs_compiled() -> bool:
    """Whether the compiled rooms are there, wanted, and made of the sources beside them."""
    if os.environ.get("HEADROOM_PURE") == "1" or not NOTE.is_file():
        return False
    noted: dict[str, str] = json.loads(NOTE.read_text(encoding="utf-8"))
    try:
        built = all(_built(path) for path in noted)
        return built and digests(noted) == noted
    except OSError:  # one of them is gone
        return False


def _built(path: str) -> bool:
    stem = f"{ROOT}/{path.removesuffix('.py')}"
    return any(os.path.isfile(stem + suffix) for suffix in EXTENSION_SUFFIXES)


COMPILED = runs_compiled()
"""Decided once for all of them: they cannot be mixed."""


def choose(folder: str) -> None:
    """Let a package import its sources, unless the compiled modules beside them are to run."""
    if not COMPILED:
        finder = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))
        sys.path_importer_cache[folder] = finder
