"""What tells whether a file that a study names has changed."""

import os
from pathlib import Path
from stat import S_ISDIR

from model.spec import MODEL_FILES

Stamp = tuple[tuple[int, int] | None, ...]


def stamp(path: str | Path) -> Stamp:
    """Size and time of change of a file, so that a changed one is read again.

    Of a model's folder it is the config that is read, and what lies beside it and says how the
    weights are stored: a folder does not change with its files.
    """
    status = _status(path)
    if status is None or not S_ISDIR(status.st_mode):
        return (_told(status),)
    return tuple(_told(_status(Path(path) / name)) for name in MODEL_FILES)


def _status(file: str | Path) -> os.stat_result | None:
    try:
        return os.stat(file)
    except (OSError, ValueError):  # the latter for a name that no file can have
        return None


def _told(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_size, status.st_mtime_ns)
