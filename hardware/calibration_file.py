"""Writes calibrations as people read them: every key with its meaning above it."""

from pathlib import Path

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import LiteralScalarString

from hardware.calibration import Calibration
from hardware.prices.surface import Surface
from model.docstrings import attribute_docstrings


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration that ``load_calibration`` reads back, every key with its meaning."""
    document = _commented(calibration)
    writer = YAML()
    writer.width = 100
    writer.default_flow_style = None
    writer.representer.add_representer(float, _dotted)
    with path.open("w", encoding="utf-8") as file:
        writer.dump(document, file)


def _dotted(representer: RoundTripRepresenter, value: float) -> ScalarNode:
    """Show a number with a point, 1.0e-06: without one YAML 1.1 reads a word."""
    text = repr(value)
    shown = text.replace("e", ".0e") if "e" in text and "." not in text else text
    return representer.represent_scalar("tag:yaml.org,2002:float", shown)


def _commented(part: BaseModel, indent: int = 0) -> CommentedMap:
    document = CommentedMap()
    document.fa.set_block_style()
    told = attribute_docstrings(type(part))
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is None or value == {}:
            continue
        document[name] = _plain(value, indent)
        if name in told:
            document.yaml_set_comment_before_after_key(name, told[name], indent=indent)
    return document


def _plain(value: object, indent: int) -> object:
    """What YAML shows of a field: mappings as blocks, a surface's values as lines of text."""
    if isinstance(value, Surface):
        document = CommentedMap()
        document["axes"] = CommentedMap({name: list(at) for name, at in value.axes.items()})
        document["axes"].fa.set_block_style()
        document["values"] = LiteralScalarString("\n".join(value.rows()) + "\n")
        return document
    if isinstance(value, BaseModel):
        return _commented(value, indent + 2)
    if isinstance(value, dict):
        return CommentedMap({name: _plain(each, indent + 2) for name, each in value.items()})
    if isinstance(value, tuple):
        return [list(row) if isinstance(row, tuple) else row for row in value]
    return value
