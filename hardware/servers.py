"""Servers of clouds by name, for who writes one where a GPU is asked for."""

from functools import lru_cache
from pathlib import Path

from hardware.yaml_file import read_bundled

_BEFORE = ("ml.", "standard-")
"""What SageMaker and Azure write before a name."""


@lru_cache(maxsize=1)
def servers() -> dict[str, tuple[int, str]]:
    """Return how many GPUs each server has, and of which kind, by its name (servers.yaml)."""
    file = read_bundled(Path(__file__).parent / "servers.yaml")
    return {
        str(name): (int(count), gpu)
        for gpu, by_count in file.items()
        for count, names in by_count.items()
        for name in names
    }


def server_of(name: str) -> tuple[int, str] | None:
    """Return how many GPUs of which kind a server has; None: no server of that name.

    Args:
        name: in lower case, with ``-`` for everything that separates words.
    """
    for before in _BEFORE:
        name = name.removeprefix(before)
    return servers().get(name)
