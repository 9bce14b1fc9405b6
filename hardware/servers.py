"""Servers of clouds by name, for who writes one where a GPU is asked for."""

import re
from functools import lru_cache
from pathlib import Path

from hardware.yaml_file import read_bundled

_BEFORE = ("ml.", "standard-")
"""What SageMaker and Azure write before a name."""

_COUNT = re.compile(r"[1-9]|\d+x|x\d*|gpus|way|servers?|nodes?")
_COUNT_AT = re.compile(r"^(?:\d+x)+(?=[a-z])|^[1-9](?=[a-z]+\d)|x\d+$")
"""Words that say how many there are, and the same at the name itself. A number without an x is one
of GPUs below 10, and of gigabytes above."""


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


def without_count(name: str) -> str:
    """Return a name without how many there are: of ``4xh100``, ``gpu-4x-h100`` (Lambda),
    ``h100-x-4``, ``gpu:h100:4`` (Slurm), ``8-way-h100-server``; as it is if it says nothing.

    Args:
        name: in lower case, with ``-`` for everything that separates words.
    """
    words = [word for word in re.split("[-:*]", name) if not _COUNT.fullmatch(word)]
    bare = "-".join(_COUNT_AT.sub("", word) for word in words)
    return bare if bare != re.sub("[:*]", "-", name) else name
