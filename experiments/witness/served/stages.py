"""What was measured so far, stage by stage: a measurement that was stopped goes on where it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Measured = TypeVar("Measured")


class OtherSettingError(ValueError):
    """What is kept was measured otherwise."""


class Stages:
    """One file that grows with every stage.

    Args:
        path: of the file.
        setting: what all stages have in common; goes into the file.

    Raises:
        OtherSettingError: what is there has another setting.
    """

    def __init__(self, path: Path, setting: dict[str, Any]) -> None:
        self.path = path
        self._kept: dict[str, Any] = {"setting": _as_kept(setting)}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            for name, value in self._kept["setting"].items():
                if found["setting"].get(name) != value:
                    raise OtherSettingError(
                        f"{path} was measured with {name} {found['setting'].get(name)}, expected "
                        f"{value}: give another --out"
                    )
            self._kept = found

    def __call__(self, name: str, measure: Callable[[], Measured]) -> Measured:
        """Return what a stage gave, as the file has it; it is measured if that has not been."""
        if name not in self._kept:
            self._kept[name] = _as_kept(measure())
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self._kept) + "\n", encoding="utf-8")
            os.replace(new, self.path)
        kept: Measured = self._kept[name]
        return kept

    def done(self) -> None:
        """All of it stands in another file."""
        self.path.unlink(missing_ok=True)


def _as_kept(value: object) -> Any:
    """Whole or resumed, what follows from a stage is the same."""
    return json.loads(json.dumps(value))
