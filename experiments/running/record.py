"""What is ours in a folder: the files that a record of ours lists by name and digest.

A record is the last file of some results, and says of itself that it is ours: the manifest of a
results folder, or the last line of a calibration. It holds a digest of its own content, so that a
record that somebody has changed is as little ours as any other file that somebody has changed.
"""

import hashlib
import json
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.running.identity import file_digest
from model.dataclass import dataclass

MANIFEST = "manifest.json"
MARK = "headroom_results"
FORMAT = 1
"""Of the record; one of another format is not taken for ours."""
SEAL = "manifest_sha256"
SIGNATURE = "# headroom wrote this file and those that this line lists: "
MAX_BYTES = 1 << 26
"""A longer file is no record."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a record says."""

    facts: Mapping[str, Any]
    """Of the results: which study, which code, when."""
    files: Mapping[str, str]
    """SHA-256 by name, the record itself included."""


@dataclass(frozen=True, slots=True)
class RecordKind:
    """How a record is read and written."""

    read: Callable[[Path], Record | None]
    """Give what a file records; None where there is none, or none as we wrote it."""
    write: Callable[[Path, Mapping[str, Any], Mapping[str, str]], None]
    """Write facts and the digests of the other files."""


def is_file(path: Path) -> bool:
    """Tell whether a path is a file itself, not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def has_digest(path: Path, digest: str) -> bool:
    """Tell whether a path is a file of this content."""
    return is_file(path) and file_digest(path) == digest


def unchanged(folder: Path, record: Record | None) -> dict[str, str]:
    """Return the digests of those files of a record that are there as they were written."""
    files = {} if record is None else record.files
    return {name: digest for name, digest in files.items() if has_digest(folder / name, digest)}


def _read_manifest(path: Path) -> Record | None:
    text = _text(path)
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.get(MARK) != FORMAT:
        return None
    seal = facts.pop(SEAL, None)
    if seal != _sha256(_json(facts)) or text != _json({**facts, SEAL: seal}):
        return None
    return _record(path, facts, text)


def _write_manifest(path: Path, facts: Mapping[str, Any], files: Mapping[str, str]) -> None:
    content = {MARK: FORMAT, **facts, "results": dict(files)}
    sealed = {**content, SEAL: _sha256(_json(content))}
    path.write_text(_json(sealed), encoding="utf-8", newline="\n")


def _read_signed(path: Path) -> Record | None:
    content, signature, line = _text(path).rpartition(SIGNATURE)
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not signature or not isinstance(facts, dict) or facts.get(MARK) != FORMAT:
        return None
    files = facts.get("results")
    if line != _line(content, files):
        return None
    return _record(path, facts, content + signature + line)


def _write_signed(path: Path, facts: Mapping[str, Any], files: Mapping[str, str]) -> None:
    content = path.read_text(encoding="utf-8")
    text = f"{content}{SIGNATURE}{_line(content, files)}"
    path.write_text(text, encoding="utf-8", newline="\n")


def _line(content: str, files: object) -> str:
    seal = _sha256(content + json.dumps(files))
    return json.dumps({MARK: FORMAT, "results": files, "sha256": seal}) + "\n"


MANIFESTS = RecordKind(_read_manifest, _write_manifest)
"""A JSON file of facts, which is nothing but a record."""
SIGNED = RecordKind(_read_signed, _write_signed)
"""A text with ``#`` comments, signed in its last line."""


def _record(path: Path, facts: dict[str, Any], text: str) -> Record | None:
    files = facts.get("results")
    if not isinstance(files, dict) or not all(_is_entry(*entry) for entry in files.items()):
        return None
    return Record(facts, {**files, path.name: _sha256(text)})


def _is_entry(name: str, digest: object) -> bool:
    plain = name not in ("", ".", "..") and not set("/\\\0") & set(name)
    return plain and isinstance(digest, str)


def _text(path: Path) -> str:
    """Return a record's text; nothing for what cannot be one, and line ends as they are."""
    if not is_file(path) or path.lstat().st_size > MAX_BYTES:
        return ""
    return path.read_bytes().decode("utf-8", "replace")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
