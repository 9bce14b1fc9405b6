"""Reading YAML with line numbers, and validating it so that one error lists every mistake."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from model.dataclass import dataclass
from model.nearest import closest
from model.text_file import TOO_DEEP, TextFileError, check_size, read_text

MOST_BYTES = 2**20
"""Of a YAML file; the largest calibration that comes with this project has 41,363."""

MOST_SHOWN = 20
"""Mistakes that are listed before the rest is only counted."""

_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}

Model = TypeVar("Model")


@dataclass(frozen=True)
class Row:
    """What stands in a file of ours; its subclasses, dataclasses as well, have the fields.

    pydantic checks them where the file is read, which is once (``model.kept``). Whoever takes what
    was kept need not be told how to check it, as a pydantic model would.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")


def read_yaml(path: Path) -> Any:
    """Parse a YAML 1.2 file; mappings keep the lines of their keys (``.lc``).

    Raises:
        ValueError: not readable, or not YAML; names file and line.
    """
    return parsed(path, text_of(path))


def text_of(path: Path) -> str:
    """Return the text of a YAML file. Raises ValueError, which names it: not readable."""
    try:
        return read_text(path, MOST_BYTES)
    except TextFileError as error:
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not readable: {error}") from None


def parsed(path: Path, text: str) -> Any:
    """Parse the text of a YAML 1.2 file, as ``read_yaml``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        data = YAML(typ="rt").load(text)
        check_size(data)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ValueError(f"{path}: {TOO_DEEP}") from None
    except TextFileError as error:
        raise ValueError(f"{path}: {error}") from None
    except (YAMLError, ValueError) as error:
        raise ValueError(f"{path}: not readable: {error}") from None
    return data


def read_bundled(path: Path) -> Any:
    """Parse a YAML file that comes with the code: thirty times as fast, and without lines.

    libyaml says what stands there, and this module what it means: nulls, truths, numbers and texts,
    anchors, aliases and merged mappings. A test compares our files with ``read_yaml``.

    Raises:
        ValueError: a file that says more than these, or not YAML.
    """
    import yaml

    with path.open("rb") as file:
        parser = yaml.CSafeLoader(file)
        try:
            parser.get_event()  # of the stream
            parser.get_event()  # of the document
            return _said(parser.get_event, parser.get_event(), {})
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: {error}") from None
        finally:
            parser.dispose()


def _said(following: Callable[[], Any], event: Any, anchors: dict[str, Any]) -> Any:
    """Build the value that begins with ``event`` from those that follow."""
    import yaml

    kind = type(event)
    value: Any
    if kind is yaml.ScalarEvent:
        value = _plain(event.value) if event.implicit[0] else event.value
    elif kind is yaml.MappingStartEvent:
        value, merged = {}, {}
        while type(inner := following()) is not yaml.MappingEndEvent:
            key = _said(following, inner, anchors)
            content = _said(following, following(), anchors)
            if key == "<<":
                merged = content
            else:
                value[key] = content
        value = {**merged, **value}
    elif kind is yaml.SequenceStartEvent:
        value = []
        while type(inner := following()) is not yaml.SequenceEndEvent:
            value.append(_said(following, inner, anchors))
    else:
        return anchors[event.anchor]
    if event.anchor:
        anchors[event.anchor] = value
    return value


def _plain(text: str) -> Any:
    """What a scalar without quotes says."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return text


def validated(model: type[Model], data: object, where: str) -> Model:
    """Validate ``data`` as ``model``.

    Args:
        model: what is expected: a pydantic model, or a dataclass.
        data: a mapping, from ``read_yaml`` if lines are to be named.
        where: what messages call the source: a file, or a key.

    Raises:
        ValueError: every mistake on a line of its own, with line (if known), key, value, and the
            nearest key for one that is unknown.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a mapping, found {type(data).__name__}")
    try:
        # Strictly: "1" and true are no numbers. As JSON, whose lists then pass for tuples, too.
        return _reader(model)(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        items = error.errors(include_url=False)
    except (TypeError, ValueError, RecursionError) as error:  # keys and values that JSON has not
        raise ValueError(f"{where}: expected texts, numbers, lists and mappings: {error}") from None
    mistakes = [_mistake(model, data, where, dict(item)) for item in items[:MOST_SHOWN]]
    if len(items) > MOST_SHOWN:
        mistakes.append(f"{where}: ... and {len(items) - MOST_SHOWN} more")
    raise ValueError("\n".join(mistakes))


def _reader(model: type[Model]) -> Callable[..., Model]:
    if issubclass(model, BaseModel):
        return model.model_validate_json
    return TypeAdapter(model).validate_json


def _mistake(model: type[Any], data: Any, where: str, item: dict[str, Any]) -> str:
    location = item["loc"]
    key = ".".join(map(str, location)) or "(whole)"
    line = _line(data, location)
    place = f"{where}:{line}" if line else where
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = getattr(model, "model_fields", None) or model.__dataclass_fields__
        close = closest(location[-1], known)
        hint = f"; did you mean {close!r}?" if close else ""
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
