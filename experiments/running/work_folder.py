"""The work folder: marked as ours, held by one process, and emptied of what is ours alone.

OUT/.headroom-work/             while a study runs, and after one that was interrupted
    headroom-work               the mark that the folder is ours, and the lock of who writes
    KEY.arrow                   a finished run (``pieces``)
    new/, old/, *.json          what is put in place and what it replaces (``publish``)

Ours in it is what has a name that only this program gives.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from experiments.running.record import is_file, is_folder
from experiments.study.errors import RunError, StudyError

WORK = ".headroom-work"
MARK = "headroom-work"
FIRST_LINE = b"headroom-work 1\n"
MARKED = FIRST_LINE + (
    b"This folder belongs to headroom: it holds the finished runs of a study that has not ended.\n"
    b"The same command goes on with them. To start over, delete this folder while no study runs.\n"
)
PIECES = re.compile(
    r"[0-9a-f]{32}\.arrow(\.\d+\.tmp)?|[0-9a-f]{32}\.reached"
    r"|requests\.growing|(names|publishing)\.tmp"
    r"|tmp[a-z0-9_]{8}"
)
"""Names of finished runs, of what is not finished yet, and of files that are to have no name."""
PARTS = re.compile(r"parts-[a-z0-9_]{8}")
"""Names of folders in which the processes of a divided run leave their steps,"""
PART = re.compile(r"tmp[a-z0-9_]{8}\.scratch")
"""and the names of these."""
MAX_SHOWN = 160
"""Characters of a name in a message."""
PATIENCE_S = 1.0
"""How long a killed run may hold its folder: its workers end within half a second."""
LOOKS = 3
"""Before a folder is called another's."""


@contextmanager
def held(work: Path, out: str) -> Iterator[int]:
    """Hold a work folder for this process alone, from making it to removing it; give the lock.

    Folders that were made for nothing are removed again.

    Raises:
        StudyError: it cannot be written, or another process is writing it.
    """
    made = [path for path in (work, *work.parents) if not os.path.lexists(path)]
    try:
        with told(out, "written"):
            lock = _locked(work, out)
    except StudyError:
        _remove_if_empty(made)
        raise
    try:
        with told(out, "written"):
            os.ftruncate(lock, 0)
            os.write(lock, MARKED)
        yield lock
    finally:
        if holds(work, lock):
            _remove_mark(work)
        os.close(lock)
        _remove_if_empty(made)


def holds(work: Path, lock: int) -> bool:
    """Tell whether the work folder is still the one that was locked: people move folders."""
    try:
        return os.path.samestat(os.fstat(lock), os.stat(work / MARK))
    except OSError:
        return False


def _locked(work: Path, out: str) -> int:
    """Make and mark the work folder and lock the mark: a lock that ends with its process."""
    last_s = time.monotonic() + PATIENCE_S
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        with suppress(FileNotFoundError):  # the run before removes it just now
            if not os.path.lexists(work):
                work.mkdir(parents=True, exist_ok=True)
            if not is_marked(work):
                raise StudyError.of(f"--out {out}: {shown(work)} is not headroom's; move it")
            lock = os.open(work / MARK, flags, 0o666)
            if _lock(lock) and holds(work, lock):
                return lock
            os.close(lock)
        if time.monotonic() > last_s:
            work.mkdir(parents=True, exist_ok=True)  # says why, where it cannot be made at all
            raise StudyError.of(f"--out {out} is being written by another run; wait for it")
        time.sleep(0.02)


def _lock(lock: int) -> bool:
    """Tell whether a file is locked now; where there are no locks, take it for locked.

    Systems without ``fcntl`` have none, nor have some network file systems: that no two runs write
    one folder at the same time is then for the user to see to.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_marked(work: Path) -> bool:
    """Tell whether a work folder is ours: it bears the mark, holds nothing at all, or is gone.

    An empty mark is one: who makes it writes into it right after that, and may be killed between.
    One look may fall into the moment in which another run ends: what it saw in the folder was
    removed, and then the mark, before it looked for that. A second look sees what became of it.
    """
    return any(_bears_mark(work) for _ in range(LOOKS))


def _bears_mark(work: Path) -> bool:
    if not os.path.lexists(work):
        return True
    if not is_folder(work):
        return False
    mark = work / MARK
    try:
        names = set(os.listdir(work))
        if not is_file(mark):
            return not names - {MARK}  # whoever makes it now may be faster
        with mark.open("rb") as file:
            return FIRST_LINE.startswith(file.read(len(FIRST_LINE)))
    except FileNotFoundError:
        return False


@contextmanager
def parts_folder(work: Path) -> Iterator[Path]:
    """Give a folder for the processes of a divided run, and remove what they leave in it."""
    folder = Path(mkdtemp(prefix="parts-", dir=work))
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove(folder, PART.fullmatch)


def remove(folder: Path, is_ours: Callable[[str], object]) -> None:
    """Remove the files whose names are ours from a folder, and the folder if that was all."""
    if not is_folder(folder):
        return
    for path in list(folder.iterdir()):
        if is_ours(path.name) and not is_folder(path):
            path.unlink(missing_ok=True)
    _remove_if_empty([folder])


def remove_pieces(work: Path) -> None:
    """Remove every finished run, and what was left by runs that were killed."""
    for path in list(work.iterdir()):
        if PARTS.fullmatch(path.name):
            remove(path, PART.fullmatch)
        elif PIECES.fullmatch(path.name) and not is_folder(path):
            path.unlink(missing_ok=True)


def has_pieces(work: Path) -> bool:
    """Tell whether some run has ended."""
    return any(PIECES.fullmatch(path.name) for path in work.glob("*.arrow"))


def _remove_mark(work: Path) -> None:
    """Remove the mark and the work folder if nothing else is in it."""
    with suppress(OSError):
        if os.listdir(work) == [MARK]:
            (work / MARK).unlink()
            work.rmdir()


def _remove_if_empty(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.rmdir()


@contextmanager
def told(out: str, done: str) -> Iterator[None]:
    """Say in one line what the file system refuses."""
    try:
        yield
    except StudyError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StudyError.of(f"--out {out} cannot be {done}: {reason}") from None


def ended(error: OSError, out: str) -> RunError:
    """Say what the file system refused while runs went on."""
    reason = error.strerror or str(error) if error.errno is None else os.strerror(error.errno)
    return RunError(f"cannot go on in {out}: {reason}")


def shown(name: str | Path) -> str:
    """Write the name of a file as a message shows it: on one line, nothing that terminals obey."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
