"""``headroom reference``: writes the pages of docs/ that repeat what the code says.

docs/study_reference.md comes from the schema of a study and the docstrings of its fields,
docs/metrics.md from ``sim.measuring.metrics.METRICS`` and the columns of the tables;
docs/study.schema.json is what ``headroom schema`` prints. A test compares the committed pages
with what this writes.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from experiments.calibrating.decoder_vs_simulation import DecoderStudy
from experiments.calibrating.kv_cache_latency import KvCacheStudy
from experiments.cli.command import Parser, called, fail, run_command
from experiments.cli.kinds import schema_of_kind
from experiments.cli.markdown import table
from experiments.cli.metrics_page import metrics_page
from experiments.cli.named_classes import class_rows
from experiments.cli.study_schema import WRITTEN_BY, schema_text
from experiments.running.record import is_file
from experiments.study.bundled import bundled_studies
from experiments.study.described import described_schema
from experiments.study.document import Study
from experiments.study.kinds import SEARCHES
from experiments.texts.registry import TABLES, table_schema
from hardware.calibration import Calibration, calibration_names
from hardware.engines.constants import AUTO, engine_calibration_names
from hardware.gpu import Gpu, gpu_names
from model.families.registry import FAMILIES
from model.families.wrapper_rows import WRAPPERS
from model.spec import catalogue
from workloads.traces.formats import FORMATS, USUAL

DOCS = Path(__file__).resolve().parents[2] / "docs"
TIME_UNITS = {
    "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
    "date": "dates", "date or s": "dates, or seconds since 1970",
    "date or given": "dates, or numbers of `trace_time_unit`",
}  # fmt: skip

Node = Mapping[str, Any]
"""One (sub)schema in JSON Schema's words."""

BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}
NONE: frozenset[str] = frozenset()
OF_A_STUDY = frozenset(Study.model_fields) - {"kind", "slo"}
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false"}


def study_page() -> str:
    """Return docs/study_reference.md: every key of a study file, and every name it may use."""
    written: set[str] = set()
    names = {
        "Models of the catalogue": catalogue(),
        "Types of checkpoints that are read (`model_type`)": (*FAMILIES, *WRAPPERS),
        "GPUs of the catalogue": gpu_names(),
        "Calibrations": (AUTO, *calibration_names(), *engine_calibration_names()),
        "Bundled studies": tuple(bundled_studies()),
    }
    parts = [
        "# Reference of the study file",
        f"<!-- {WRITTEN_BY} -->",
        "Keys that are not listed here are errors, and so is a text where a number is expected. "
        "`--set` takes the same keys with dots: `--set engine.block_size=32`. Relative paths in a "
        "file start at its folder, those of `--set` at the current folder.",
        *_model_parts("A study", Study, "", written),
        *_model_parts("A GPU as a mapping", Gpu, "cluster.gpu", written),
        "A mapping may also name a GPU of the catalogue and change some of its figures: "
        "`{like: a100-80gb-sxm, usd_per_hour: 1.5}`.",
        *_model_parts("A calibration file", Calibration, "calibration", written),
        *(
            part
            for kind in SEARCHES
            for part in _model_parts(
                f"Study kind {kind}, beside the keys of a study",
                schema_of_kind(kind),
                "",
                written,
                OF_A_STUDY,
            )
        ),
        *_model_parts("Study kind decoder_vs_simulation", DecoderStudy, "", written),
        *_model_parts("Study kind kv_cache_latency", KvCacheStudy, "", written),
        *(
            part
            for name in TABLES
            for part in _model_parts(
                f"Study kind roofline, table {name}", table_schema(name), "", written
            )
        ),
        "## Names",
        *(f"{title}: {', '.join(map('`{}`'.format, found))}." for title, found in names.items()),
        "## Schedulers, orders and routers",
        "One of your own is named `MODULE:CLASS`: see [plugins.md](plugins.md).",
        table(("key", "name", "meaning"), class_rows()),
        "## Trace formats",
        "The format of a trace is found from its columns, or the keys of its JSON records (nested "
        "ones joined by dots); further ones are ignored. [traces.md](traces.md) says more. "
        "Identities of blocks or tokens tell which prompts begin alike. A table of the format "
        "headroom may have columns that do: rows with the same `prompt_id` have the same "
        "prompt; rows with the same `prefix_id` share their first `prefix_tokens` tokens, and "
        "`prompt_id` then counts within the prefix.",
        _formats(),
    ]
    return "\n\n".join(parts) + "\n"


def _formats() -> str:
    rows = [
        (
            f"`{form.name}`",
            ", ".join(f"`{name}`" for name in form.columns()),
            TIME_UNITS[form.time_unit] if form.time is not None else "none: lengths only",
            form.source,
        )
        for form in (*FORMATS, *USUAL)
    ]
    return table(("format", "columns", "times", "written by"), rows)


PAGES = {
    "study_reference.md": study_page,
    "metrics.md": metrics_page,
    "study.schema.json": schema_text,
}


def _model_parts(
    title: str, model: type[BaseModel], path: str, written: set[str], without: frozenset[str] = NONE
) -> Iterator[str]:
    """A section for ``model`` and one for each model inside it that is not ``written`` yet.

    Keys of ``without`` are told elsewhere. Of models with the same keys the one that lies least
    deep has the table.
    """
    schema = described_schema(model)
    kept = {key: node for key, node in schema["properties"].items() if key not in without}
    schema["properties"] = kept
    definitions: Node = schema.get("$defs", {})
    places: dict[str, list[str]] = {}
    _find(schema, path, definitions, places)
    yield f'<a id="{model.__name__.lower()}"></a>'
    yield f"## {title}"
    yield from _section(schema, definitions)
    written.add(model.__name__)
    for name, found in places.items():
        if name in written:
            continue
        written.add(name)
        node = definitions[name]
        words = [prop["const"] for prop in node["properties"].values() if "const" in prop]
        where = ", ".join(f"`{place}`" for place in dict.fromkeys(found))
        yield f'<a id="{name.lower()}"></a>'
        yield f"### {where}{f': {words[0]}' if words else ''}"
        keys = node["properties"].keys()
        same = [other for other in places if definitions[other]["properties"].keys() == keys]
        first = min(same, key=lambda other: places[other][0].count("."))
        if first == name:
            yield from _section(node, definitions)
        else:
            yield f"{_prose(node['description'])} The same keys as in {_kind({'$ref': first})}."


def _find(node: Node, path: str, definitions: Node, places: dict[str, list[str]]) -> None:
    """Note every path at which each definition stands, in order of appearance."""
    for key, prop in node.get("properties", {}).items():
        below = f"{path}.{key}".removeprefix(".")
        for name in _references(prop):
            is_new = name not in places
            places.setdefault(name, []).append(below)
            if is_new:
                _find(definitions[name], below, definitions, places)


def _references(node: Any) -> Iterator[str]:
    """Names of the definitions that a field refers to."""
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield node["$ref"].split("/")[-1]
        for key, value in node.items():
            if key not in ("discriminator", "default"):
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _section(node: Node, definitions: Node) -> Iterator[str]:
    yield _prose(node.get("description", ""))
    rows = [
        (f"`{key}`", _kind(prop), _default(key, prop, node), _meaning(prop, definitions))
        for key, prop in node["properties"].items()
    ]
    yield table(("key", "value", "default", "meaning"), rows)


def _meaning(node: Node, definitions: Node) -> str:
    """A field's own docstring, or that of the one model that it holds."""
    held = definitions[node["$ref"].split("/")[-1]] if "$ref" in node else node
    return _prose(node.get("description", held.get("description", "")))


def _kind(node: Node) -> str:
    """What a value may be, in words."""
    if "$ref" in node:
        name = node["$ref"].split("/")[-1]
        return f"[{name}](#{name.lower()})"
    members = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    if members:
        kinds = [_kind(member) for member in members if member.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in node or "enum" in node:
        return ", ".join(f"`{word}`" for word in node.get("enum", [node.get("const")]))
    if "examples" in node:
        return f"`{node['examples'][0]}`"
    limits = ", ".join(f"{word} {node[key]:g}" for key, word in BOUNDS.items() if key in node)
    kind = str(node.get("type", "anything"))
    if kind == "array":
        if "prefixItems" in node:
            return f"({', '.join(map(_kind, node['prefixItems']))})"
        return f"list of {_kind(node.get('items', {}))}"
    if kind == "object":
        values = node.get("additionalProperties")
        inside = _kind(values) if isinstance(values, Mapping) else "anything"
        return "mapping" if inside == "anything" else f"mapping to {inside}"
    return f"{TYPES.get(kind, 'text' if kind == 'string' else kind)} {limits}".strip()


def _default(key: str, node: Node, parent: Node) -> str:
    if key == "name" and "kind" in parent["properties"]:
        return "the file's"
    if key in parent.get("required", ()):
        return "required"
    value = node.get("default")
    if "const" in node:  # what tells one kind from another has to be written down
        return f"`{value}`" if value == "serving" else "required"
    if isinstance(value, Mapping) and value:
        return "its defaults"
    if value is None or value in ("", {}, []):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _prose(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages to docs/, or to ``--out``; 2 where a page is not one of ours."""
    parser = Parser(prog=called("reference"), description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder to write to (docs)")
    return run_command(_write, parser, argv, "some pages may be missing")


def _write(options: argparse.Namespace) -> int:
    out: Path = options.out
    if out == DOCS and not DOCS.is_dir():
        return fail("docs/ is in a checkout alone, and this is none; expected --out FOLDER")
    out.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        path = out / name
        if os.path.lexists(path) and not (
            is_file(path) and WRITTEN_BY in path.read_text("utf-8", "replace")
        ):
            return fail(f"{path} is not a page of ours, so it is left alone")
    for name, page in PAGES.items():
        (out / name).write_text(page(), encoding="utf-8", newline="\n")
        print(f"wrote {out / name}")
    return 0
