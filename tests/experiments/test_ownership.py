"""What is ours in a folder, what is not, and that publishing tells one from the other."""

import json
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from experiments.reporting.plots import TITLES
from experiments.running.folder import Wanted, results_folder
from experiments.running.publish import claimed, publish
from experiments.running.record import unchanged
from experiments.running.results import FILES
from experiments.running.work_folder import MARK, MARKED, WORK, is_marked
from experiments.study.errors import RunError, StudyError
from tests.experiments.folders import NAMES, WANTED, holds, put, tree


def test_results_are_put_and_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    put(out, "first")
    assert holds(out, "first")
    put(out, "second")
    assert holds(out, "second")
    put(out, "third", Wanted(WANTED.names, "mine", "settings 2", overwrite=True), NAMES[:2])
    assert sorted(tree(out)) == ["manifest.json", "study.yaml", "summary.csv"]
    assert os.listdir(tmp_path / "deep") == ["out"]


def test_a_run_that_ends_just_now_is_no_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are seen, and are gone with the mark before that is looked for."""
    work, listdir = tmp_path / "out" / WORK, os.listdir
    (work / "new" / "other").mkdir(parents=True)
    (work / MARK).write_bytes(MARKED)

    def ends(folder: Path) -> list[str]:
        names = listdir(folder)
        if "new" in names and (work / "new" / "other").exists():
            rmtree(work)
        return names

    monkeypatch.setattr(os, "listdir", ends)
    assert is_marked(work)
    put(tmp_path / "out", "second")
    assert holds(tmp_path / "out", "second")


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    put(tmp_path / "out", "first")
    assert (tmp_path / "out").is_symlink()
    assert holds(tmp_path / "disk", "first")


def test_figures_of_a_study_are_among_its_files() -> None:
    assert {f"{name}.png" for name in TITLES} < FILES


def edited(manifest: Path, **changes: Any) -> None:
    manifest.write_text(
        json.dumps({**json.loads(manifest.read_text()), **changes}, indent=2) + "\n"
    )


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "another program's": lambda path: path.write_text('{"name": "My app", "start_url": "/"}'),
    "a later format": lambda path: edited(path, headroom_results=2),
    "a changed fact": lambda path: edited(path, seeds=[1, 2]),
    "a changed list": lambda path: edited(path, results={"letter.txt": "0" * 64}),
    "a path in the list": lambda path: edited(path, results={"../letter.txt": "0" * 64}),
    "no list": lambda path: edited(path, results=None),
    "other spaces": lambda path: path.write_text(path.read_text() + "\n"),
    "cut short": lambda path: path.write_text(path.read_text()[:-9]),
    "nothing": lambda path: path.write_text(""),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to ours": lambda path: path.symlink_to(path.rename(path.parents[1] / "moved.json")),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_only_a_manifest_as_we_wrote_it_makes_a_folder_ours(
    change: Callable[[Path], Any], tmp_path: Path
) -> None:
    put(tmp_path / "out", "first")
    change(tmp_path / "out" / "manifest.json")
    before = sorted(tmp_path.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(StudyError, match=r"is not a results folder .*manifest.json is not as"):
            put(tmp_path / "out", "second", Wanted(WANTED.names, "mine", "settings 1", overwrite))
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "out" / "summary.csv").read_text() == "first: summary.csv"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["text", "link", "folder"])
def test_a_file_that_was_changed_is_no_longer_ours(name: str, change: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, "first")
    if change == "text":
        (out / name).write_text("my remarks")
    else:
        (out / name).rename(tmp_path / "moved")
        (out / name).symlink_to(tmp_path / "moved") if change == "link" else (out / name).mkdir()
    before = tree(tmp_path)
    with pytest.raises(StudyError, match=f"{name}, changed since headroom wrote it, so it is left"):
        put(out, "second", Wanted(WANTED.names, "mine", "settings 1", overwrite=True))
    assert tree(tmp_path) == before
    if change == "text":  # under a name that is not wanted it is in nobody's way
        others = tuple(other for other in NAMES if other != name)
        put(out, "third", Wanted(frozenset((*others, "manifest.json")), "x", "1", True), others)
        assert (out / name).read_text() == "my remarks"
        assert (out / others[0]).read_text() == f"third: {others[0]}"


def test_results_that_are_not_the_same_are_replaced_when_told_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, "first")
    for wanted, held in (
        (Wanted(WANTED.names, "mine", "settings 2"), "results of mine with other settings"),
        (Wanted(WANTED.names, "other", "settings 1 of other"), "results of mine; choose"),
        (Wanted(WANTED.names, "mine", None), "earlier results, which new ones would not equal"),
    ):
        with pytest.raises(StudyError, match=f"holds {held}.*--overwrite"):
            put(out, "second", wanted)
        assert holds(out, "first")
    put(out, "second", Wanted(WANTED.names, "mine", None, overwrite=True))
    assert holds(out, "second")


def exit_at(call: int, out: Path, text: str) -> None:
    """Publish, and be killed before the given change of a name."""
    left = [call]

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return function(*arguments, **options)

        return change

    for name in ("link", "rename", "replace", "unlink", "rmdir"):
        setattr(os, name, counting(getattr(os, name)))
    put(out, text, Wanted(WANTED.names, "mine", "settings 2", overwrite=True))
    os._exit(0)


@pytest.mark.parametrize("earlier", [True, False])
def test_killed_at_any_moment_results_are_the_old_or_the_new_ones(
    earlier: bool, tmp_path: Path
) -> None:
    ends = set()
    for call in range(100):
        out = tmp_path / str(call)
        if earlier:
            put(out, "old")
        out.mkdir(exist_ok=True)
        (out / "notes.md").write_text("my notes")
        if not earlier:  # a folder of ours all the same: it has a work folder
            (out / WORK).mkdir()
            (out / WORK / "headroom-work").write_text("")
        process = get_context("fork").Process(target=exit_at, args=(call, out, "new"))
        process.start()
        process.join()
        if (out / "manifest.json").exists():
            record = results_folder(out).recorded()
            assert record is not None
            assert unchanged(out, record) == record.files, "with a manifest all is there"
        with claimed(results_folder(out), Wanted(WANTED.names, "mine", "1", overwrite=True)):
            pass
        assert (out / "notes.md").read_text() == "my notes"
        (out / "notes.md").unlink()
        new = holds(out, "new") if out.exists() else False
        assert new or (holds(out, "old") if earlier else not list(out.glob("*")))
        assert not (out / WORK).exists()
        ends.add(new)
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert ends == {True, False}


def test_what_comes_in_the_way_meanwhile_stays_and_so_do_earlier_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, link = tmp_path / "out", os.link

    def user_is_faster(source: Path, target: Path, **options: Any) -> None:
        if Path(target) == out / "summary.csv" and not target.exists():
            target.write_text("mine, just now")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", user_is_faster)
    with pytest.raises(RunError, match=r"summary.csv was put there meanwhile.* lies in .*new"):
        put(out, "first")
    assert (out / WORK / "new" / "study.yaml").read_text() == "first: study.yaml"
    assert {name for name in os.listdir(out) if name != WORK} == {"summary.csv"}
    with pytest.raises(StudyError, match=r"holds summary.csv, not from headroom"):
        put(out, "first")
    assert (out / "summary.csv").read_text() == "mine, just now"
    (out / "summary.csv").unlink()
    monkeypatch.undo()
    put(out, "first")
    assert holds(out, "first")


def test_other_results_that_came_meanwhile_stay(tmp_path: Path) -> None:
    put(tmp_path / "other", "other")
    with claimed(results_folder(tmp_path / "out"), WANTED) as work:
        for path in (tmp_path / "other").iterdir():
            (tmp_path / "out" / path.name).write_bytes(path.read_bytes())
        (work.new / "study.yaml").write_text("mine")
        with pytest.raises(RunError, match=r"manifest.json is not the one that was there"):
            publish(work, {})
    assert unchanged(tmp_path / "out", results_folder(tmp_path / "other").recorded())


def test_a_folder_that_was_moved_meanwhile_is_not_touched(tmp_path: Path) -> None:
    with claimed(results_folder(tmp_path / "out"), WANTED) as work:
        (work.new / "study.yaml").write_text("mine")
        (tmp_path / "out").rename(tmp_path / "moved")
        put(tmp_path / "out", "another run's")
        with (
            claimed(results_folder(tmp_path / "out"), WANTED),
            pytest.raises(RunError, match="moved or removed meanwhile"),
        ):
            publish(work, {})
    assert (tmp_path / "out" / "summary.csv").read_text() == "another run's: summary.csv"


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    put(tmp_path / "out", "first")
    put(tmp_path / "out", "second")
    assert holds(tmp_path / "out", "second")


def test_what_is_not_ours_in_a_work_folder_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    mine = ("notes.txt", "sub/x", "new/mine.csv", "old/summary.csv", "parts-abcdefgh/x.txt")
    with claimed(results_folder(out), WANTED) as work:
        ours = ("0" * 32 + ".arrow", "0" * 32 + ".arrow.7.tmp", "requests.growing", "tmpabcdefgh")
        for name in (*mine, *ours, "parts-abcdefgh/tmpabcdefgh.scratch"):
            (work.folder / name).parent.mkdir(exist_ok=True)
            (work.folder / name).write_text("there")
        (work.new / "study.yaml").write_text("new")
        publish(work, {})
    assert (out / "study.yaml").read_text() == "new"
    assert tree(out / WORK).keys() == {*mine, "headroom-work"}
    put(out, "second")
    assert tree(out / WORK).keys() == {*mine, "headroom-work"}


@pytest.mark.parametrize("made", ["folder", "file", "link"])
def test_a_work_folder_without_our_mark_is_not_ours(made: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if made == "folder":
        (out / WORK).mkdir()
        (out / WORK / "0123456789abcdef0123456789abcdef.arrow").write_text("mine")
    elif made == "file":
        (out / WORK).write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        (out / WORK).symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(StudyError, match=r"\.headroom-work is not headroom's"):
        put(out, "first")
    assert tree(tmp_path) == before
