"""The source code and data of a room, as a digest: what was made of them once holds as long."""

import hashlib
from collections.abc import Iterator
from functools import cache
from os import scandir
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def sources_digest(room: str) -> str:
    """Return the SHA-256 of a package's source and data, names included."""
    digest = hashlib.sha256()
    for name in sorted(_sources(room), key=lambda name: name.split("/")):
        digest.update(name.encode())
        with open(f"{ROOT}/{name}", "rb", buffering=0) as file:
            digest.update(file.read())
    return digest.hexdigest()


def _sources(room: str) -> Iterator[str]:
    """Names of files from the root on; ``pathlib`` would take longer than reading them does."""
    folders = [room]
    while folders:
        folder = folders.pop()
        with scandir(f"{ROOT}/{folder}") as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.name.endswith((".py", ".json", ".yaml")) and entry.is_file():
                    yield name
                elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                    folders.append(name)
