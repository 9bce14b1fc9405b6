"""What a comparison has found so far, as ``compare --out`` keeps it: VERSION.json in a folder.

A comparison that was stopped goes on where it was, as long as nothing that decides the outcome has
changed: the scenarios, the driver, or the simulator.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from experiments.running.identity import code_digest
from experiments.witness.comparison import Tally


class OtherCodeError(ValueError):
    """What is kept was found by other code, or from another first scenario on."""


def digest() -> str:
    """Return the SHA-256 of all code that decides what a comparison finds."""
    found = hashlib.sha256(code_digest().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def read(path: Path, first: int) -> dict[str, Tally]:
    """Return what is kept of a release, by feature; nothing if there is no such file.

    Raises:
        OtherCodeError: it cannot be continued.
    """
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, now in {"code_sha256": digest(), "first": first}.items():
        if data[name] != now:
            raise OtherCodeError(
                f"{path} holds a comparison with {name} {data[name]}, expected {now}: "
                "give another --out"
            )
    return {feature: Tally(**row) for feature, row in data["features"].items()}


def write(path: Path, first: int, found: dict[str, Tally]) -> None:
    """Keep what was found, whole or not at all."""
    rows = {feature: asdict(tally) for feature, tally in found.items()}
    data = {"code_sha256": digest(), "first": first, "features": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)
