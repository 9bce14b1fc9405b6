"""What runs, and where: versions of headroom and its libraries, the machine, its engine."""

import platform
from importlib import metadata
from typing import Any

VERSION = "0.1.0"
"""Of headroom; what is installed takes it from here."""
LIBRARIES = ("numpy", "simpy", "pandas", "pyarrow", "scipy", "pydantic")


def installed_version(distribution: str) -> str:
    """Return the version of an installed package.

    It stands in the first lines of its metadata; ``metadata.version`` reads all of them, as mail.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    found = metadata.distribution(distribution)
    for line in (found.read_text("METADATA") or "").splitlines():
        key, _, value = line.partition(":")
        if key == "Version":
            return value.strip()
    return found.version


def versions() -> dict[str, str]:
    """Return the versions of headroom, Python and the libraries that compute."""
    libraries = {name: installed_version(name) for name in LIBRARIES}
    return {"headroom": VERSION, "python": platform.python_version(), **libraries}


def machine() -> dict[str, Any]:
    """Return where a study ran, and whether its steps ran compiled; no host name."""
    import os

    from hardware.compiled import COMPILED

    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "engine": "compiled" if COMPILED else "plain Python",
    }
