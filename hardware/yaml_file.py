"""Reading YAML with line numbers, and validating it so that one error lists every mistake."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> Any:
    """Parse a YAML 1.2 file; mappings keep the lines of their keys (``.lc``).

    Raises:
        ValueError: not readable, or not YAML; names file and line.
    """
    try:
        return YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: not YAML: {error.problem}") from None
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: not readable: {error}") from None


def validated(model: type[Model], data: object, where: str) -> Model:
    """Validate ``data`` as ``model``.

    Args:
        model: what is expected.
        data: a mapping, from ``read_yaml`` if lines are to be named.
        where: what messages call the source: a file, or a key.

    Raises:
        ValueError: every mistake on a line of its own, with line (if known), key, value, and the
            nearest key for one that is unknown.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a mapping, found {type(data).__name__}")
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        mistakes = [_mistake(model, data, where, dict(item)) for item in error.errors()]
    raise ValueError("\n".join(mistakes))


def _mistake(model: type[BaseModel], data: Any, where: str, item: dict[str, Any]) -> str:
    location = item["loc"]
    key = ".".join(map(str, location)) or "(whole)"
    line = _line(data, location)
    place = f"{where}:{line}" if line else where
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), list(model.model_fields), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{place}: {key}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{place}: {key}: missing"
    message = item["msg"].removeprefix("Value error, ")
    shown = repr(item["input"])
    return f"{place}: {key} = {shown[:80]}: {message}"


def _line(data: Any, location: tuple[int | str, ...]) -> int | None:
    """Line of the deepest key of ``location`` that the file holds, from 1."""
    line: int | None = None
    for part in location:
        marks = getattr(data, "lc", None)
        if marks is None or not marks.data or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        data = data[part]
    return line
