"""What runs, and where: versions of headroom and its libraries, the machine, its engine."""

import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "headroom-sim"
"""Name of the package; ``headroom`` on the package index is another project's."""
LIBRARIES = ("numpy", "simpy", "pandas", "pyarrow", "scipy", "pydantic")


@cache
def headroom_version() -> str:
    """Return the version of the code that runs: of its checkout, or of the installed package.

    The checkout goes first, since what an environment has installed may be another one.
    """
    project = ROOT / "pyproject.toml"
    if project.is_file():
        import tomllib

        told = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if told.get("name") == DISTRIBUTION:
            return str(told["version"])
    return installed_version(DISTRIBUTION)


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
    return {"headroom": headroom_version(), "python": platform.python_version(), **libraries}


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
