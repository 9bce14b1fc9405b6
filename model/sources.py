"""The source code and data of a room, as a digest: what was made of them once holds as long."""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART_BYTES = 2**16
"""Of a file that are read at once; most have fewer."""


@cache
def sources_digest(room: str) -> str:
    """Return the SHA-256 of a package's source and data, names included."""
    digest = hashlib.sha256()
    for name in sorted(_sources(room), key=lambda name: name.split("/")):
        digest.update(name.encode())
        for part in _parts_of(f"{ROOT}/{name}"):
            digest.update(part)
    return digest.hexdigest()


def _parts_of(path: str) -> Iterator[bytes]:
    """Read a file as the system does: Python's files would take longer to open than to read."""
    file = os.open(path, os.O_RDONLY)
    try:
        while part := os.read(file, PART_BYTES):
            yield part
    finally:
        os.close(file)


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
