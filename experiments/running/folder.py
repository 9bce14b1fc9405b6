"""Where results go, and whether they may.

Nothing that this program did not write is removed, renamed or overwritten. Ours is what a record of
ours lists by name and digest (``record``). A results folder is whole as soon as its
record, ``manifest.json``, is there; unfinished runs lie in a work folder inside it
(``work_folder``). A calibration is a file of its own; its work folder lies beside it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from experiments.running.record import MANIFEST, MANIFESTS, SIGNED, Record, RecordKind, unchanged
from experiments.running.work_folder import WORK, is_marked, shown, told
from experiments.study.errors import StudyError
from model.dataclass import dataclass
from model.sources import ROOT

SOURCES = (
    ".git", ".github", ".venv", "benchmarks", "docs", "experiments", "hardware", "model", "sim",
    "tests", "workloads",
)  # fmt: skip
"""Folders of the checkout that are not for results."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where results go: files of a folder, one of which records the others."""

    out: str
    """As the user calls it, for messages."""
    folder: Path
    record: str
    kind: RecordKind
    work: Path
    alone: bool
    """Whether the folder is for these results alone."""

    def recorded(self) -> Record | None:
        """Return what the results that are there say of themselves; None without any."""
        return self.kind.read(self.folder / self.record)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be put in a place."""

    names: frozenset[str]
    """Every name that its files may have."""
    study: str
    """Whose results they are, as ``study`` in the record's facts."""
    identity: str | None
    """A digest of all that the results depend on; None if they are never the same again."""
    overwrite: bool = False
    """Whether results of ours that are not the same may be replaced."""


def chosen_folder(out: str | None, name: str) -> Path:
    """Return the folder of ``--out``, by default that of the study.

    Raises:
        StudyError: ``--out ''``.
    """
    if out is not None and not out.strip():
        raise StudyError.of("--out is empty, expected a folder")
    return Path("results") / name if out is None else Path(out)


def results_folder(out: Path) -> Place:
    """Return the place of a results folder.

    Raises:
        StudyError: it cannot be one, by its name or because something else is there.
    """
    with told(shown(out), "used"):
        if out.is_symlink() and not out.exists():
            raise StudyError.of(f"--out {shown(out)} is a link to nothing; choose another")
        if out.exists() and not out.is_dir():
            raise StudyError.of(f"--out {shown(out)} is not a folder; choose another")
        _check_whereabouts(out, out.resolve())
        folder = out.absolute()
    return Place(shown(out), folder, MANIFEST, MANIFESTS, folder / WORK, alone=True)


def signed_file(out: Path) -> Place:
    """Return the place of a text file that is signed by us, with what else is put beside it."""
    work = out.absolute().with_name(f".{out.name}{WORK}")
    return Place(shown(out), work.parent, out.name, SIGNED, work, alone=False)


def _check_whereabouts(out: Path, found: Path) -> None:
    here = Path.cwd().resolve()
    if found in (here, *here.parents):
        raise StudyError.of(
            f"--out {shown(out)} is the folder that you are in, or one around it, expected one "
            "for results alone"
        )
    if WORK in found.parts:
        raise StudyError.of(f"--out {shown(out)}: {WORK} is for unfinished runs; choose another")
    inside = found.relative_to(ROOT).parts if found.is_relative_to(ROOT) else ()
    if inside and inside[0] in SOURCES:
        raise StudyError.of(
            f"--out {shown(out)} is in {inside[0]}/ of headroom itself; choose another"
        )


def check(place: Place, wanted: Wanted, *, by_content: bool = True) -> tuple[str, ...]:
    """Refuse a place where something would be in the way; return the names beside ours.

    Without ``by_content`` a recorded file counts as unchanged.

    Raises:
        StudyError: the place holds files that are not ours under names that are wanted, other
            results of ours that may not be replaced, or is a folder that is not for results.
    """
    with told(place.out, "read"):
        present = set(os.listdir(place.folder)) if place.folder.is_dir() else set()
        record = place.recorded()
        listed = {} if record is None else record.files
        ours = unchanged(place.folder, record) if by_content else listed
        if place.work.name in present and not is_marked(place.work):
            raise StudyError.of(
                f"--out {place.out}: {shown(place.work)} is not headroom's; move it away"
            )
        others = present - ours.keys() - {place.work.name}
        if place.alone and others and record is None and place.work.name not in present:
            raise StudyError.of(_not_results(place, others))
    _check_names(place, wanted, ours, record)
    if record is not None and not wanted.overwrite:
        _check_same(place, wanted, record)
    return tuple(sorted(others)) if place.alone else ()


def _not_results(place: Place, others: Iterable[str]) -> str:
    why = f"it holds {some(others)}"
    if place.record in others:
        why += f", and {place.record} is not as headroom writes it, or was changed since"
    return f"--out {place.out} is not a results folder ({why}), so it is left alone"


def _check_names(place: Place, wanted: Wanted, ours: Iterable[str], record: Record | None) -> None:
    held = [n for n in sorted(wanted.names - set(ours)) if os.path.lexists(place.folder / n)]
    if held:
        listed = record is not None and held[0] in record.files
        why = "changed since headroom wrote it" if listed else "not from headroom"
        raise StudyError.of(
            f"--out {place.out} holds {some(held)}, {why}, so it is left alone; "
            "move it away, or choose another --out"
        )


def _check_same(place: Place, wanted: Wanted, record: Record) -> None:
    earlier = record.facts.get("study")
    if wanted.identity is None:
        held = "earlier results, which new ones would not equal"
    elif record.facts.get("identity") == wanted.identity:
        return
    elif earlier == wanted.study:
        held = f"results of {wanted.study} with other settings, other input or other code"
    else:
        held = f"results of {shown(str(earlier))}"
    raise StudyError.of(
        f"--out {place.out} holds {held}; choose another --out, or replace them with --overwrite"
    )


def some(names: Iterable[str]) -> str:
    """Return a few names in a row, and how many more there are."""
    first = sorted(names)
    more = f" and {len(first) - 3} more" if len(first) > 3 else ""
    return ", ".join(map(shown, first[:3])) + more
