"""How results come into their place: file by file, the record last, and back if that fails.

The record of earlier results goes first and that of the new ones comes last, so while there is one,
everything that it lists is there. What is replaced waits in ``old/`` until then. A journal tells
whoever comes next, if this process is killed, what has to go back.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from experiments.running.folder import Place, Wanted, check
from experiments.running.identity import file_digest
from experiments.running.record import has_digest, is_file, is_folder, unchanged
from experiments.running.work_folder import (
    has_pieces,
    held,
    holds,
    remove,
    remove_pieces,
    shown,
    told,
)
from experiments.running.workers import interrupts_later
from experiments.study.errors import RunError, StudyError
from model.dataclass import dataclass

JOURNAL = "publishing.json"
NAMES = "names.json"


@dataclass(slots=True)
class Work:
    """A place that this process holds: where it works, and what it will replace."""

    place: Place
    wanted: Wanted
    lock: int
    before: str | None
    """Digest of the record that was there at the beginning."""
    beside: tuple[str, ...]
    """Names in the folder that are not ours, and stay."""
    published: bool = field(default=False, init=False)
    keeps_new: bool = field(default=False, init=False)
    """Whether what was computed could not be put in place, and waits in ``new``."""

    @property
    def folder(self) -> Path:
        """Where finished runs are kept until the results are whole."""
        return self.place.work

    @property
    def new(self) -> Path:
        """Where the files of the results are written, under names that are wanted."""
        return self.place.work / "new"


@contextmanager
def claimed(place: Place, wanted: Wanted) -> Iterator[Work]:
    """Hold a place for this process alone, with a folder to work in.

    Nothing is left of the work folder but finished runs that were not published, what could not
    be published, and what is not ours.

    Raises:
        StudyError: the place cannot be written, another process is writing it, or it holds what
            may not be replaced.
    """
    if not os.path.lexists(place.work):
        check(place, wanted, by_content=False)  # before anything is made
    with held(place.work, place.out) as lock:
        with told(place.out, "written"):
            _recover(place)
            _clear_new(place.work)
            beside = check(place, wanted)
            work = Work(place, wanted, lock, _recorded(place), beside)
            _write(place.work / NAMES, sorted(wanted.names))
            if not is_folder(work.new):
                work.new.mkdir()
        try:
            yield work
        finally:
            with suppress(OSError, ValueError):
                if holds(place.work, lock):
                    _tidy(work)


def publish(work: Work, facts: Mapping[str, Any]) -> None:
    """Record what was written into ``work.new``, and put it in place of earlier results of ours.

    Raises:
        RunError: something that is not ours is in the way; all of it is as it was before.
        OSError: the record cannot be written.
    """
    place, record = work.place, work.place.record
    listed = sorted(work.wanted.names - {record})
    new = {name: file_digest(work.new / name) for name in listed if is_file(work.new / name)}
    about = {"study": work.wanted.study, "identity": work.wanted.identity, **facts}
    place.kind.write(work.new / record, about, new)
    new[record] = file_digest(work.new / record)
    with interrupts_later():
        try:
            _replace(work, new)
        except (OSError, _InTheWay) as error:
            work.keeps_new = True
            reason = error.strerror if isinstance(error, OSError) else error
            raise RunError(
                f"--out {place.out}: {reason}, so nothing was changed there; what was computed "
                f"lies in {shown(work.new)}"
            ) from None
        work.published = True


class _InTheWay(Exception):
    """What came into a place while results were made for it."""


def _replace(work: Work, new: dict[str, str]) -> None:
    place = work.place
    if not holds(place.work, work.lock):
        raise _InTheWay("the folder was moved or removed meanwhile")
    if _recorded(place) != work.before:
        raise _InTheWay(f"its {place.record} is not the one that was there at the beginning")
    old = unchanged(place.folder, place.recorded())
    held = [name for name in new if name not in old and os.path.lexists(place.folder / name)]
    if held:
        raise _InTheWay(f"{held[0]} was put there or changed meanwhile")
    journal = {"old": old, "new": new}
    _write(place.work / JOURNAL, journal)
    try:
        _set_aside(place, old)
        for name in new:
            _put_in_place(work.new / name, place.folder / name)
    except (OSError, _InTheWay):
        _undo(place, journal)
        raise
    _finish(place, journal)


def _set_aside(place: Place, old: dict[str, str]) -> None:
    """Take earlier results out of the way, the record first, unless somebody has changed them."""
    aside = place.work / "old"
    aside.mkdir(exist_ok=True)
    for name in sorted(old, key=lambda name: name != place.record):
        if os.path.lexists(aside / name):
            raise _InTheWay(f"{shown(aside / name)} is in the way")
        os.rename(place.folder / name, aside / name)
        if not has_digest(aside / name, old[name]):
            raise _InTheWay(f"{name} was changed meanwhile")


def _put_in_place(source: Path, target: Path) -> None:
    try:
        _put(source, target)
    except FileExistsError:
        raise _InTheWay(f"{target.name} was put there meanwhile") from None


def _put(source: Path, target: Path) -> None:
    """Give a file a second name, or another one where files have one only; never a taken one.

    Raises:
        OSError: the name is taken, or the folder cannot be written.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: take the name, then move the file there
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(source, target)
        except OSError:
            target.unlink()
            raise


def _undo(place: Place, journal: dict[str, dict[str, str]]) -> None:
    """Take back what was put in place, and put back what it replaced.

    Raises:
        StudyError: something else stands there; earlier results wait in ``old``.
    """
    aside, new = place.work / "old", place.work / "new"
    for name, digest in journal["new"].items():
        target = place.folder / name
        if name in journal["old"] and not os.path.lexists(aside / name):
            continue  # the earlier one, not yet set aside
        if has_digest(target, digest):
            if os.path.lexists(new / name):
                target.unlink()
            else:
                os.rename(target, new / name)
    for name in sorted(journal["old"], key=lambda name: name == place.record):
        if os.path.lexists(aside / name):
            try:
                _put(aside / name, place.folder / name)
            except FileExistsError:
                raise StudyError.of(
                    f"--out {place.out}: an interrupted call left earlier results in "
                    f"{shown(aside)}, and {name}, which is not headroom's, stands in their place; "
                    "move it away"
                ) from None
            (aside / name).unlink(missing_ok=True)
    _forget(place)


def _finish(place: Place, journal: dict[str, dict[str, str]]) -> None:
    """Remove what was replaced."""
    for name, digest in journal["old"].items():
        if has_digest(place.work / "old" / name, digest):
            (place.work / "old" / name).unlink()
    _forget(place)


def _forget(place: Place) -> None:
    with suppress(OSError):
        (place.work / "old").rmdir()
    (place.work / JOURNAL).unlink()


def _recover(place: Place) -> None:
    """Undo a replacement that was killed, or finish it where its record is in place."""
    if not is_file(place.work / JOURNAL):
        return
    journal = json.loads((place.work / JOURNAL).read_text(encoding="utf-8"))
    if has_digest(place.folder / place.record, journal["new"][place.record]):
        _finish(place, journal)
    else:
        _undo(place, journal)


def _recorded(place: Place) -> str | None:
    record = place.recorded()
    return None if record is None else record.files[place.record]


def _tidy(work: Work) -> None:
    if not work.keeps_new and not is_file(work.folder / JOURNAL):
        _clear_new(work.folder)
    if work.published or not has_pieces(work.folder):
        remove_pieces(work.folder)


def _clear_new(work: Path) -> None:
    """Remove what an earlier call wrote and did not publish."""
    names = work / NAMES
    if is_file(names):
        ours = set(json.loads(names.read_text(encoding="utf-8")))
        remove(work / "new", ours.__contains__)
        names.unlink()


def _write(path: Path, content: object) -> None:
    """Write JSON that is there as a whole or not at all."""
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")
    os.replace(beside, path)
