"""The results folder: whether it can be written, and how it appears in one piece.

results/study/            what people read; replaced as a whole
results/study.partial/    pieces of finished runs, their requests so far (``requests.growing``), and
                          ``whole/``, the folder being assembled
results/study.replaced/   the previous results, for the moment between two renames
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import StudyError

MANIFEST = "manifest.json"
OURS = ("study.yaml", "calibration.yaml", MANIFEST, "requests.parquet", "report.html")


def partial_folder(out: Path) -> Path:
    """Return where finished runs are kept until the results are whole."""
    return out.with_name(f"{out.name}.partial")


def _replaced_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.replaced")


def check_out(out: Path) -> None:
    """Refuse to replace anything but results of ours, or nothing.

    Raises:
        StudyError: ``out`` is a file, or a folder that holds something else.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise StudyError.of(f"--out {out} is not a folder; choose another")
    if not out.is_dir():
        return
    try:
        foreign = sorted(path.name for path in out.iterdir() if not _is_ours(path))
        empty = not any(out.iterdir())
    except OSError as error:
        raise StudyError.of(f"--out {out} cannot be read: {error.strerror}") from None
    if foreign or not (empty or (out / MANIFEST).is_file()):
        named = f" (it holds {', '.join(foreign[:3])})" if foreign else ""
        raise StudyError.of(f"--out {out} is not a results folder{named}, so it is left alone")


def _is_ours(path: Path) -> bool:
    return path.is_file() and (path.name in OURS or path.suffix in (".csv", ".md", ".png", ".svg"))


@contextmanager
def claimed(out: Path) -> Iterator[Path]:
    """Make the partial folder and hold it for this process alone.

    A folder that was made for nothing, because no run ended, is removed again.

    Raises:
        StudyError: it cannot be written, or another process is writing it.
    """
    partial = partial_folder(out)
    made = [path for path in (partial, *partial.parents) if not path.exists()]
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        for path in made:
            _remove_if_empty(path)
        raise StudyError.of(f"--out {out} cannot be written: {error.strerror}") from None
    try:
        _lock(lock, out)
        _recover(out)
        yield partial
    finally:
        os.close(lock)
        if partial.is_dir() and not any(partial.glob("*.parquet")):
            shutil.rmtree(partial, ignore_errors=True)
            for path in made:
                _remove_if_empty(path)


def _lock(lock: int, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # a system without it: two runs at once are then the user's to avoid
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StudyError.of(f"--out {out} is being written by another run; wait for it") from None


def _recover(out: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    old = _replaced_folder(out)
    if old.is_dir():
        if out.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, out)


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return


def publish(whole: Path, out: Path) -> None:
    """Put the finished folder in its place; what was there is removed after that."""
    old = _replaced_folder(out)
    if out.exists():
        os.rename(out, old)
    os.rename(whole, out)
    if old.is_dir():
        shutil.rmtree(old)
    shutil.rmtree(partial_folder(out), ignore_errors=True)
