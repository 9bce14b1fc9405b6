"""JSON Schemas of our models, with what the docstrings say of every key."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from model.docstrings import attribute_docstrings

Node = dict[str, Any]


def described_schema(model: type[BaseModel]) -> Node:
    """Return the JSON Schema of a model."""
    schema = model.model_json_schema()
    describe({model.__name__: schema, **schema.get("$defs", {})})
    return schema


def describe(definitions: Mapping[str, Node]) -> None:
    """Give each property of definitions, by the name of their class, its docstring."""
    classes = {each.__name__: each for each in _models(BaseModel)}
    for name, node in definitions.items():
        if name in classes and "properties" in node:
            texts = attribute_docstrings(classes[name])
            for key, child in node["properties"].items():
                if key in texts:
                    child.setdefault("description", texts[key])


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in base.__subclasses__():
        if not each.__module__.startswith("pydantic"):
            yield each
        yield from _models(each)
