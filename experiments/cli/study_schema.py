"""``headroom schema``: the JSON Schema of a study file, with which editors complete and check it.

Only the checks of headroom itself are complete: they know what a sweep gives, which names exist,
and what fits on a GPU. ``headroom run STUDY --dry-run`` makes them.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from experiments.cli.command import Parser, called, run_command

if TYPE_CHECKING:
    from pydantic import BaseModel

WRITTEN_BY = "Written by `headroom reference`; change the docstrings instead."
"""In every page that the code writes."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Node = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the schema."""
    parser = Parser(prog=called("schema"), description=__doc__, allow_abbrev=False)
    return run_command(lambda _: _print(), parser, argv, "the schema is not whole")


def _print() -> int:
    print(schema_text(), end="")
    return 0


def schema_text() -> str:
    """Return the schema as it is kept in docs/study.schema.json."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def study_schema() -> Node:
    """Return the JSON Schema of every kind of study.

    A key that is missing is no fault here, but for what tells kinds apart: a sweep may give it.
    """
    from pydantic.json_schema import models_json_schema

    from experiments.cli.kinds import schema_of_kind
    from experiments.study.described import describe
    from experiments.study.document import Study
    from experiments.study.kinds import MEASURED, SEARCHES, TABLES
    from experiments.texts import registry

    told: dict[tuple[str, str], type[BaseModel]]
    told = {("kind", kind): schema_of_kind(kind) for kind in (*SEARCHES, *MEASURED)}
    told |= {("table", name): registry.table_schema(name) for name in registry.TABLES}
    models: list[tuple[type[BaseModel], Literal["validation"]]]
    models = [(Study, "validation"), *((model, "validation") for model in told.values())]
    references, whole = models_json_schema(models)
    describe(whole["$defs"])
    serving = {"properties": {"kind": {"const": "serving"}}}  # which is what it is if none is told
    return {
        "$schema": DIALECT,
        "$comment": WRITTEN_BY,
        "title": "A study of headroom",
        "type": "object",
        "properties": {"kind": {"enum": ["serving", *SEARCHES, *MEASURED, TABLES]}},
        "allOf": [
            {"if": serving, "then": references[Study, "validation"]},
            *(
                {
                    "if": {"required": [key], "properties": {key: {"const": name}}},
                    "then": references[model, "validation"],
                }
                for (key, name), model in told.items()
            ),
        ],
        "$defs": {name: _lenient(node) for name, node in whole["$defs"].items()},
    }


def _lenient(node: Any) -> Any:
    """Ask for no key but for those that can have one value only."""
    if isinstance(node, list):
        return [_lenient(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _lenient(value) for key, value in node.items()}
    if isinstance(kept.get("required"), list) and isinstance(kept.get("properties"), dict):
        telling = [key for key in kept["required"] if "const" in kept["properties"][key]]
        del kept["required"]
        if telling:
            kept["required"] = telling
    return kept
