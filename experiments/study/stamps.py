"""What tells whether a file that a study names has changed."""

from pathlib import Path

from model.spec import MODEL_FILES

Stamp = tuple[tuple[int, int] | None, ...]


def stamp(path: str | Path) -> Stamp:
    """Size and time of change of a file, so that a changed one is read again.

    Of a model's folder it is the config that is read, and what lies beside it and says how the
    weights are stored: a folder does not change with its files.
    """
    file = Path(path)
    files = [file / name for name in MODEL_FILES] if file.is_dir() else [file]
    return tuple(_status(one) for one in files)


def _status(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
