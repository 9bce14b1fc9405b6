"""What the study schema says about a key: neighbours, choices, and pydantic's complaints."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any

from pydantic import BaseModel, ValidationError

from experiments.study import vllm_keys
from experiments.study.described import described_schema
from experiments.study.errors import MAX_SHOWN, nearest
from experiments.study.keys import dotted, key_path
from experiments.study.units import without_unit
from experiments.study.yaml_source import Path
from model.errors import one_of

Node = dict[str, Any]
"""One (sub)schema in JSON Schema's words."""


@cache
def _schema(model: type[BaseModel]) -> Node:
    return described_schema(model)


def value_at(data: object, path: Path) -> object:
    """Return the value at ``path`` in nested mappings and lists; None when there is none."""
    for part in path:
        if isinstance(data, Mapping) and part in data:
            data = data[part]
        elif isinstance(part, int) and isinstance(data, list) and part < len(data):
            item: object = data[part]
            data = item
        else:
            return None
    return data


def _alternatives(node: Node, definitions: Node, value: object) -> Iterator[Node]:
    """Follow references and unions; of a discriminated one what ``value`` names."""
    if "$ref" in node:
        yield from _alternatives(definitions[node["$ref"].split("/")[-1]], definitions, value)
        return
    discriminator = node.get("discriminator")
    if discriminator and isinstance(value, Mapping):
        chosen = value.get(discriminator["propertyName"])
        if isinstance(chosen, str) and chosen in discriminator["mapping"]:
            yield from _alternatives({"$ref": discriminator["mapping"][chosen]}, definitions, value)
            return
    members = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
    for member in members:
        yield from _alternatives(member, definitions, value)
    if not members:
        yield node


def _nodes_at(model: type[BaseModel], path: Path, data: object) -> list[Node]:
    root = _schema(model)
    definitions = root.get("$defs", {})
    nodes = list(_alternatives(root, definitions, data))
    for depth, part in enumerate(path):
        value = value_at(data, path[: depth + 1])
        below: list[Node] = []
        for node in nodes:
            child = node.get("properties", {}).get(part)
            if child is None and isinstance(part, int):
                child = node.get("items")
            if child is None and isinstance(node.get("additionalProperties"), dict):
                child = node["additionalProperties"]
            if child is None and node.get("additionalProperties") is True:
                child = {"additionalProperties": True}
            if child is not None:
                below.extend(_alternatives(child, definitions, value))
        nodes = below
    return nodes


def _elsewhere(model: type[BaseModel], path: Path, data: object) -> str:
    """Say of which other kinds a key is, where a word beside it chooses a kind: ``cv`` of gamma."""
    kinds: dict[str, None] = {}
    above = _nodes_at(model, path[:-2], data) if len(path) > 1 else [_schema(model)]
    for node in above:
        child = node.get("properties", {}).get(path[-2], {}) if len(path) > 1 else {}
        for each in _unions(child):
            chosen = value_at(data, (*path[:-1], each["discriminator"]["propertyName"]))
            for kind, reference in each["discriminator"]["mapping"].items():
                below = _schema(model)["$defs"][reference.split("/")[-1]]
                if kind != chosen and path[-1] in below.get("properties", {}):
                    kinds[kind] = None
            if kinds:
                word = dotted((*path[:-1], each["discriminator"]["propertyName"]))
                return f"it belongs to {', '.join(kinds)}, and {word} is {chosen}" if chosen else ""
    return ""


def _unions(node: Node) -> Iterator[Node]:
    """Those of a node whose member a word chooses."""
    if "discriminator" in node:
        yield node
    for member in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _unions(member)


def keys_at(model: type[BaseModel], path: Path, data: object) -> list[str]:
    """Return the keys that the schema knows in the mapping at ``path`` of ``data``."""
    nodes = _nodes_at(model, path, data)
    return list(dict.fromkeys(key for node in nodes for key in node.get("properties", {})))


def choices_at(model: type[BaseModel], path: Path, data: object) -> list[str]:
    """Return the words that the schema allows at ``path`` of ``data``; none when it is open."""
    nodes = _nodes_at(model, path, data)
    words = [word for node in nodes for word in (*node.get("enum", ()), node.get("const"))]
    return [word for word in words if isinstance(word, str)]


def all_keys(model: type[BaseModel], data: object, path: Path = ()) -> list[str]:
    """Return every dotted key that the schema knows, as far as ``data`` selects among unions.

    Of a list those of the places that ``data`` has.
    """
    found: list[str] = []
    if len(path) < 6:
        for key in keys_at(model, path, data):
            below = (*path, key)
            value = value_at(data, below)
            places = range(len(value)) if isinstance(value, list) else ()
            found += [dotted(below), *all_keys(model, data, below)]
            for place in places:
                found += all_keys(model, data, (*below, place))
    return found


UNKNOWN = "unknown key"
"""How the complaint about a key begins that does not exist,"""
MISSING = "missing"
"""and that about one which should."""
_MEANT = rf"{UNKNOWN}; did you mean (\w+)\?"


def unknown_key(
    model: type[BaseModel], path: Path, data: object, known: Sequence[str] | None = None
) -> str:
    """Say that the key at ``path`` does not exist, and which one may have been meant.

    First the right word in the wrong section, then the one of the section that begins like it (rate
    of rate_per_s), then a word of vLLM, then a misspelt one. ``known`` are all keys of the model,
    if the caller has them.
    """
    last = str(path[-1])
    neighbours = keys_at(model, path[:-1], data)
    if (place := re.fullmatch(r"(\w+)\[.*\]", last)) and place[1] in neighbours:
        return f"{UNKNOWN}; places are counted from 0: {dotted((*path[:-1], place[1]))}[0]"
    if other := _elsewhere(model, path, data):
        return f"{UNKNOWN}; {other}. Expected one of {', '.join(neighbours)}"
    known = all_keys(model, data) if known is None else known
    if "." in last and key_path(last) in map(key_path, known):
        first, rest = last.split(".", 1)
        return f"{UNKNOWN}; write {rest} inside of {first}: dotted keys are for sweep and --set"
    meant = [key for key in known if not _of_a_law(key, known)]
    elsewhere = [key for key in meant if key.split(".")[-1] == last]
    longer = [key for key in neighbours if key.startswith(f"{last}_")]
    if not elsewhere and len(longer) == 1:
        hint = f"; did you mean {longer[0]}?"
    elif elsewhere:
        found = max(elsewhere, key=lambda key: _shared(key, path))
        hint = f"; did you mean {found}{'' if '.' in found else ', at the top of the study'}?"
    elif of_vllm := vllm_keys.said_of(last) or vllm_keys.said_of_nearest(last, (*neighbours,)):
        return f"{UNKNOWN}; {of_vllm}"
    else:
        hint = nearest(last, neighbours) or nearest(last, [key.split(".")[-1] for key in meant])
    expected = f"xpected one of {', '.join(neighbours)}" if neighbours else ""
    if not expected:
        return f"{UNKNOWN}{hint}"
    return f"{UNKNOWN}{hint} E{expected}" if hint else f"{UNKNOWN}, e{expected}"


def _of_a_law(key: str, known: Sequence[str]) -> bool:
    """Whether it describes a distribution: ``path``, ``mean`` and their like mean that nowhere."""
    return f"{key.rpartition('.')[0]}.distribution" in known


def _shared(key: str, path: Path) -> int:
    """How many parts a key and a path have in common at their beginning."""
    pairs = zip(key_path(key), path, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def complaints(
    error: ValidationError, model: type[BaseModel], data: object
) -> list[tuple[Path, str]]:
    """Turn pydantic's errors into ``(path in data, message)``, one per path.

    pydantic's locations also name members of unions, which are not in the data; those are dropped.
    """
    found: dict[Path, list[str]] = {}
    known = all_keys(model, data)
    for item in error.errors(include_url=False):
        path = _path_in(data, item["loc"], item["type"])
        if item["type"].startswith("union_tag"):
            path = (*path, str(item["ctx"]["discriminator"]).strip("'"))
        messages = found.setdefault(path, [])
        if item["type"] == "extra_forbidden":
            shown = len(found) <= MAX_SHOWN  # the others are only counted, so not looked up
            text = unknown_key(model, path, data, known) if shown else UNKNOWN
        else:
            text = _message(item, model, path, data)
        if text not in messages:
            messages.append(text)
    above = {path[:depth] for path in found for depth in range(len(path))}
    told = [
        (path, _join(messages))
        for path, messages in found.items()
        if path not in above or not all(text.startswith("expected ") for text in messages)
    ]  # a number is expected by the other member of a union, whose mapping has a fault inside
    return without_misspelt(told, told)


def without_misspelt(
    faults: Iterable[tuple[Path, str]], beside: Iterable[tuple[Path, str]]
) -> list[tuple[Path, str]]:
    """Drop a missing key where an unknown one beside it was meant to be it: that is told once."""
    meant = {
        (*path[:-1], word[1])
        for path, text in beside
        if (word := re.match(_MEANT, text)) is not None
    }
    return [each for each in faults if each[0] not in meant or not each[1].startswith(MISSING)]


def coercions(model: type[BaseModel], data: object, path: Path = ()) -> list[tuple[Path, str]]:
    """Find values that pydantic would quietly turn into another kind: "32" or true to a number."""
    value = value_at(data, path)
    if isinstance(value, Mapping):
        below: list[Any] = list(value)
    elif isinstance(value, list):
        below = list(range(len(value)))
    else:
        expected = _expected_kind(model, path, data, value)
        found = f", found the text {value!r}" if isinstance(value, str) else ""
        return [(path, f"expected {expected}{found}")] if expected else []
    return [fault for part in below for fault in coercions(model, data, (*path, part))]


def _expected_kind(model: type[BaseModel], path: Path, data: object, value: object) -> str:
    kinds = {str(node.get("type")) for node in _nodes_at(model, path, data)} - {"null"}
    if isinstance(value, str | bool) and kinds and kinds <= {"integer", "number"}:
        return "a whole number" if kinds == {"integer"} else "a number"
    if value is not None and not isinstance(value, bool) and kinds == {"boolean"}:
        return "true or false"
    return ""


def _join(messages: list[str]) -> str:
    """Merge what the members of one union expect."""
    expected = [text.removeprefix("expected ") for text in messages]
    if len(expected) > 1:  # the others say which number
        expected = [text.removeprefix("a number or ") for text in expected]
    if all(text.startswith("expected ") for text in messages):
        return "expected " + " or ".join(dict.fromkeys(expected))
    return "; ".join(messages)


def _path_in(data: object, location: tuple[int | str, ...], kind: str) -> Path:
    path: Path = ()
    for index, part in enumerate(location):
        here = value_at(data, path)
        inside = (isinstance(here, Mapping) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if inside or (kind == "missing" and index == len(location) - 1):
            path = (*path, part)
    return path


def _message(item: Any, model: type[BaseModel], path: Path, data: object) -> str:
    kind, text = item["type"], str(item["msg"])
    if item["loc"][-1:] == ("[key]",) and kind.endswith("_parsing"):
        return f"a key here is {_plain_words(text).removeprefix('expected ')}"
    if kind == "missing":
        return f"{MISSING}{_description(model, path, data)}"
    if kind in ("value_error", "assertion_error"):
        return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    choices = choices_at(model, path, data)
    if kind == "union_tag_not_found":
        return f"{MISSING}, expected one of {', '.join(choices)}"
    if kind == "union_tag_invalid":
        tag = item["ctx"]["tag"]
        return one_of(tag, choices)
    if kind == "string_pattern_mismatch":
        return f"not allowed{_description(model, path, data)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        keys = keys_at(model, path, data)
        kinds = {node.get("type") for node in _nodes_at(model, path, data)}
        number = "a number or " if kinds & {"integer", "number"} else ""
        meant = without_unit(item["input"], str(path[-1])) if number else ""
        return (
            f"expected {number}a mapping{' with the keys ' if keys else ''}{', '.join(keys)}{meant}"
        )
    if kind in ("too_short", "too_long"):
        limit, most = item["ctx"].get("min_length"), item["ctx"].get("max_length")
        bound = f"at least {limit}" if kind == "too_short" else f"at most {most}"
        return f"expected {bound} of them, found {item['ctx']['actual_length']}"
    if kind == "literal_error" and choices:
        return one_of(item["input"], choices)
    meant = without_unit(item["input"], str(path[-1])) if kind.endswith("_parsing") else ""
    return _plain_words(text) + _as_share(item) + meant


def _as_share(item: Any) -> str:
    """Ask whether a share was given in percent."""
    most, value = item.get("ctx", {}).get("le", item.get("ctx", {}).get("lt")), item["input"]
    if most != 1 or not isinstance(value, int | float) or not 1 < value <= 100:
        return ""
    return f"; a share, not percent: did you mean {value / 100:g}?"


def _plain_words(text: str) -> str:
    """Say ``expected ...`` where pydantic says ``Input should be ...``."""
    text = text.replace("Input should be ", "expected ", 1)
    for theirs, ours in (
        ("a valid list", "a list"),
        ("a valid string", "a text"),
        ("a valid integer, unable to parse string as an integer", "a whole number"),
        ("a valid integer, got a number with a fractional part", "a whole number"),
        ("a valid integer", "a whole number"),
        ("a valid number, unable to parse string as a number", "a number"),
        ("a valid number", "a number"),
        ("a valid boolean, unable to interpret input", "true or false"),
        ("a valid boolean", "true or false"),
        ("String should have at least 1 character", "expected a text that is not empty"),
    ):
        text = text.replace(theirs, ours)
    return text


def _description(model: type[BaseModel], path: Path, data: object) -> str:
    """The docstring of a field, which is what a missing one should have held."""
    for node in _nodes_at(model, path[:-1], data):
        about = node.get("properties", {}).get(path[-1], {}).get("description")
        if about:
            return f", expected: {' '.join(str(about).split())}"
    return ""
