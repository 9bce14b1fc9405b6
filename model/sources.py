"""The source code and data of a room, as a digest: what was made of them once holds as long.

A process that goes on while somebody changes its files runs code that is no longer there. What it
makes is of no digest that anybody else can have.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from model import IMPORTED_NS

ROOT = Path(__file__).resolve().parents[1]
PART_BYTES = 2**16
"""Of a file that are read at once; most have fewer."""
CLOCKS_NS = 2_000_000_000
"""How far the clock of a file system may be behind, and the first import before ``IMPORTED_NS``."""
OF_THIS_PROCESS = os.urandom(16)
"""What no other process has, but those forked from it: they imported what it did."""


@cache
def sources_digest(room: str) -> str:
    """Return the SHA-256 of what this process imports of a package: source, data and names.

    If a file changed since it began to import, nobody can say of which content its modules are: the
    digest is then one that no other process gets.
    """
    digest, changed_ns = _told(room)
    if changed_ns < IMPORTED_NS - CLOCKS_NS:
        return digest
    return hashlib.sha256(digest.encode() + OF_THIS_PROCESS).hexdigest()


def are_as_imported(room: str) -> bool:
    """Tell whether the files of a package are still those that this process imports."""
    changed_ns = (os.stat(f"{ROOT}/{name}").st_ctime_ns for name in _sources(room))
    return max(changed_ns) < IMPORTED_NS - CLOCKS_NS


def content_digest(room: str) -> str:
    """Return the SHA-256 of a package's source and data as they are now, names included."""
    return _told(room)[0]


def _told(room: str) -> tuple[str, int]:
    """The digest of the files and when the last of them changed, as no program can set it."""
    digest, changed_ns = hashlib.sha256(), 0
    for name in sorted(_sources(room), key=lambda name: name.split("/")):
        digest.update(name.encode())
        file = os.open(f"{ROOT}/{name}", os.O_RDONLY)
        try:
            changed_ns = max(changed_ns, os.fstat(file).st_ctime_ns)
            for part in _parts_of(file):
                digest.update(part)
        finally:
            os.close(file)
    return digest.hexdigest(), changed_ns


def _parts_of(file: int) -> Iterator[bytes]:
    """Read as the system does: Python's files would take longer to open than to read."""
    while part := os.read(file, PART_BYTES):
        yield part


def _sources(room: str) -> Iterator[str]:
    """Names of files from the root on; ``pathlib`` would take longer than reading them does."""
    folders = [room]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{ROOT}/{folder}") as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.name.endswith((".py", ".json", ".yaml")) and entry.is_file():
                    yield name
                elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                    folders.append(name)
