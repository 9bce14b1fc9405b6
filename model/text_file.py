"""Reading a text that somebody else wrote: whole, of a size that makes sense, and in UTF-8."""

import codecs
import json
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 2**20
"""Of one file."""
MOST_VALUES = 200_000
"""In one file, each alias (``*name``) counted with all that it stands for."""
DEEPEST = 64
"""Mappings and lists inside one another; nothing that is described here needs ten."""

TOO_DEEP = f"nested too deeply, expected at most {DEEPEST} levels"
TOO_MANY = f"too large, expected at most {MOST_VALUES:,} values (an alias counts all it stands for)"

_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class TextFileError(ValueError):
    """A file that is no text of a usable size. The message does not name the file."""


def check_regular(path: Path, most_bytes: int | None = None) -> None:
    """Refuse what is not a file with an end, or too large.

    Raises:
        TextFileError: missing, unreadable, a folder, a device or a pipe; or larger than
            ``most_bytes``.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise TextFileError(getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        raise TextFileError(f"is {kind}, expected a file")
    if most_bytes is not None and status.st_size > most_bytes:
        raise TextFileError(f"{status.st_size:,} bytes, expected at most {most_bytes:,}")


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the content of a UTF-8 file, without a byte-order mark.

    Raises:
        TextFileError: as ``check_regular``; or another encoding, or binary.
    """
    check_regular(path, most_bytes)
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise TextFileError(error.strerror or str(error)) from None
    for mark, name in _OTHERS.items():
        if data.startswith(mark):
            raise TextFileError(f"{name} text, expected UTF-8")
    if b"\0" in data:
        raise TextFileError("binary, expected UTF-8 text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextFileError(f"not UTF-8 text: line {line} has other bytes") from None


def read_json(path: Path) -> Any:
    """Return what a JSON file says; NaN and infinities are for the reader of a key to judge.

    Raises:
        TextFileError: as ``read_text``; or not JSON, nested too deeply, or with too many values.
    """
    text = read_text(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TextFileError(f"not JSON: {error}") from None
    except RecursionError:
        raise TextFileError(f"not JSON: {TOO_DEEP}") from None
    except ValueError as error:  # a number of thousands of digits
        raise TextFileError(f"not JSON: {error}") from None
    check_size(data)
    return data


def check_size(data: Any) -> None:
    """Refuse mappings and lists that nobody writes by hand: too deep, or too many values.

    What stands in several places counts each time, so that a few lines of aliases are seen for what
    they would become.

    Raises:
        TextFileError: more than ``DEEPEST`` levels, or than ``MOST_VALUES`` values.
    """
    level, values = [data] if isinstance(data, dict | list) else [], 0
    for _ in range(DEEPEST + 1):
        inside: list[Any] = []
        for each in level:
            inside += each.values() if isinstance(each, dict) else each
            if values + len(inside) > MOST_VALUES:
                raise TextFileError(TOO_MANY)
        values += len(inside)
        level = [each for each in inside if isinstance(each, dict | list)]
        if not level:
            return
    raise TextFileError(TOO_DEEP)
