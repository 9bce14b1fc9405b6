"""What two points were told differently: their settings, one by one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.figure_layout import said
from experiments.reporting.quantities import MISSING
from experiments.running.record import MANIFEST, MANIFESTS
from experiments.study.document import read_raw
from experiments.study.errors import StudyError
from experiments.study.overrides import apply_overrides, override

ABOUT = ("name", "description", "kind", "sweep", "baseline")
"""Keys of a study that change no point of it."""
DIGITS = 8
"""Of a digest, that are shown."""

Difference = tuple[str, str, str]
"""A dotted key, and what it is before and after."""


def settings_of(folder: Path, row: Mapping[str, Any], swept: Sequence[str]) -> dict[str, str]:
    """Return every setting of a point of a results folder by its dotted key, as text.

    Raises:
        StudyError: the folder's study.yaml cannot be read.
    """
    raw = {key: value for key, value in read_raw(folder / "study.yaml", []).raw.items()
           if key not in ABOUT}  # fmt: skip
    given = [override(key, _held(row[key]), key) for key in swept]
    _, problems = apply_overrides(raw, given)
    if problems:
        raise StudyError(problems)
    return dict(_flat("", raw))


def _held(value: Any) -> Any:
    """A swept value as a study has it: tables hold null as NaN, mappings and lists as JSON."""
    if value != value:
        return None
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def basis_of(folder: Path) -> dict[str, str]:
    """Return which code and which files (calibrations, traces, plugins) made results: digests."""
    record = MANIFESTS.read(folder / MANIFEST)
    facts = {} if record is None else record.facts
    found = {"code of headroom": str(facts.get("code_sha256", MISSING))}
    for kind in ("calibrations", "files", "plugins"):
        for name, told in facts.get(kind, {}).items():
            digest = told["sha256"] if isinstance(told, Mapping) else told
            found[f"{kind.removesuffix('s')} {name}"] = str(digest)
    return found


def differing(
    settings: tuple[Mapping[str, str], Mapping[str, str]],
    basis: tuple[Mapping[str, str], Mapping[str, str]],
) -> list[Difference]:
    """Return what is not alike before and after, in its order; a dash where a key is not there.

    Of the code and files those that both sides have: a folder names those of all its points.
    """
    before, after = settings
    keys = dict.fromkeys(_parent(key, before, after) for key in (*before, *after))
    told = ((key, _told(before, key), _told(after, key)) for key in keys)
    found = [each for each in told if each[1] != each[2]]
    old, new = basis
    found += [
        (key, digest[:DIGITS], new[key][:DIGITS])
        for key, digest in old.items()
        if new.get(key, digest) != digest
    ]
    return found


def _parent(key: str, *sides: Mapping[str, str]) -> str:
    """The key itself, or what it is in that is a plain value on one of the sides."""
    ends = [place for place, letter in enumerate(key) if letter in ".["]
    return next((key[:end] for end in ends if any(key[:end] in side for side in sides)), key)


def _told(settings: Mapping[str, str], key: str) -> str:
    """The value of a key; where it is a mapping, of all in it that has one."""
    if key in settings:
        return settings[key]
    words = [
        f"{name.removeprefix(key).removeprefix('.')} {text}"
        for name, text in settings.items()
        if name.startswith((f"{key}.", f"{key}[")) and text != said(None)
    ]
    return " ".join(words) or MISSING


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Mappings and lists of them by the dotted keys of what is in them."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), each)
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for place, each in enumerate(value):
            yield from _flat(f"{key}[{place}]", each)
    else:
        yield key, said(value)
