"""Ways to lose a file of a user's, tried with real processes: none of them loses any."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from study_files import SMALL, run_cli, start_cli, tables_of, write_study

from experiments.running.record import MANIFESTS, unchanged
from experiments.running.work_folder import WORK

ONE = SMALL.replace("[1, 4]", "[4]").replace("seeds: 2", "seeds: 1")
"""One run of milliseconds."""
LONG = SMALL.replace("num_requests: 20", "num_requests: 2000").replace(
    "[1, 4]", "[1, 2, 3, 4, 5, 6, 7, 8]"
)
"""Sixteen runs of some hundredths of a second each."""


def cli(folder: Path, *argv: object) -> tuple[int, str]:
    """Run the command line as a process in a folder; return its status and what it says."""
    process = start_cli(*argv, "--jobs", 1, "--no-figures", cwd=folder)
    _, message = process.communicate(timeout=120)
    assert "Traceback" not in message
    return process.returncode, message


def users_files(folder: Path, *names: str) -> dict[Path, str]:
    """Write files that exist once; return them with their content."""
    files = {folder / name: f"{name} exists once" for name in names}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return files


def assert_untouched(files: dict[Path, str]) -> None:
    assert {path: path.read_text() for path in files} == files


@contextmanager
def under_way(*argv: object, cwd: Path, work: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a study and halt it when a run has ended; it goes on after the block."""
    process = start_cli(*argv, "--no-figures", cwd=cwd)
    deadline = time.monotonic() + 60
    while not list(work.glob("*.arrow")):
        assert process.poll() is None, "the study ended before it could be halted"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    assert not (work.parent / "manifest.json").exists()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)


def test_what_lies_beside_and_in_a_results_folder_stays(tmp_path: Path) -> None:
    write_study(tmp_path, ONE)
    files = users_files(
        tmp_path, "out.partial/thesis.txt", "out.partial/sub/notes.txt", "out.replaced/x",
        "results/small.partial/thesis.txt",
    )  # fmt: skip
    assert cli(tmp_path, "small.yaml", "--out", "out")[0] == 0
    first = tables_of(tmp_path / "out")
    files |= users_files(tmp_path / "out", "notes.md", "mine.csv", "sub/x", ".hidden")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "small.yaml")
    status, message = cli(tmp_path, "small.yaml", "--out", "out")
    assert status == 0
    assert "left alone in out: .hidden, link, mine.csv and 2 more" in message
    assert tables_of(tmp_path / "out") == first, "the same study replaces its own results"
    assert (tmp_path / "out" / "link").is_symlink()
    assert_untouched(files)
    assert cli(tmp_path, "small.yaml")[0] == 0
    assert_untouched(files)
    record = MANIFESTS.read(tmp_path / "results" / "small" / "manifest.json")
    assert record is not None
    assert unchanged(tmp_path / "results" / "small", record) == record.files
    assert sorted(os.listdir(tmp_path / "results")) == ["small", "small.partial"]


def test_a_folder_of_another_program_is_left_alone(tmp_path: Path) -> None:
    write_study(tmp_path, ONE)
    files = users_files(tmp_path, "webapp/README.md", "webapp/data.csv", "webapp/summary.csv")
    files[tmp_path / "webapp" / "manifest.json"] = '{"name": "My app", "start_url": "/"}\n'
    assert_untouched({path: path.write_text(text) and text for path, text in files.items()})
    before = sorted(tmp_path.rglob("*"))
    status, message = cli(tmp_path, "small.yaml", "--out", "webapp", "--overwrite")
    assert status == 2
    assert message.startswith("error: --out webapp is not a results folder (it holds README.md, ")
    assert message.count("\n") == 1
    assert_untouched(files)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_run_is_refused_and_the_first_ends_beside_what_was_put_there(
    tmp_path: Path,
) -> None:
    path, other = write_study(tmp_path, LONG), write_study(tmp_path, ONE, "one.yaml")
    command = (path, "--out", "out", "--jobs", 1)
    with under_way(*command, cwd=tmp_path, work=tmp_path / "out" / WORK) as first:
        for study in (path, other):
            status, message = cli(tmp_path, study, "--out", "out", "--overwrite")
            assert status == 2
            assert message == "error: --out out is being written by another run; wait for it\n"
        names = ("thesis.txt", "sub/x", f"{WORK}/x", f"{WORK}/new/my.csv")
        files = users_files(tmp_path / "out", *names)
    _, message = first.communicate(timeout=120)
    assert first.returncode == 0
    assert f"{WORK} holds files that are not headroom's; they stay there\n" in message
    assert_untouched(files)
    record = MANIFESTS.read(tmp_path / "out" / "manifest.json")
    assert record is not None
    assert unchanged(tmp_path / "out", record) == record.files
    assert len((tmp_path / "out" / "runs.csv").read_text().splitlines()) == 17


def test_what_came_in_the_way_meanwhile_stays_and_the_same_command_goes_on(tmp_path: Path) -> None:
    path = write_study(tmp_path, LONG)
    command = (path, "--out", "out", "--jobs", 1)
    with under_way(*command, cwd=tmp_path, work=tmp_path / "out" / WORK) as process:
        files = users_files(tmp_path / "out", "summary.csv")
    _, message = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "error: --out out: summary.csv was put there or changed meanwhile, so not" in message
    assert "finished runs are kept, run the same command to go on" in message
    assert_untouched(files)
    status, message = cli(tmp_path, path, "--out", "out")
    assert status == 2
    assert "holds summary.csv, not from headroom, so it is left alone; move it away" in message
    (tmp_path / "out" / "summary.csv").rename(tmp_path / "mine.csv")
    status, message = cli(tmp_path, path, "--out", "out")
    assert status == 0
    assert "16 runs, 16 of them from an interrupted call" in message
    assert (tmp_path / "mine.csv").read_text() == "summary.csv exists once"
    assert not (tmp_path / "out" / WORK).exists()


def test_killed_while_its_workers_live_on_it_is_taken_up_at_once(tmp_path: Path) -> None:
    path = write_study(tmp_path, LONG)
    command = (path, "--out", "out", "--jobs", 2)
    with under_way(*command, cwd=tmp_path, work=tmp_path / "out" / WORK) as process:
        files = users_files(tmp_path / "out", "notes.md")
        process.send_signal(signal.SIGKILL)
    process.wait()
    status, message = cli(tmp_path, path, "--out", "out")
    process.communicate(timeout=60)
    assert status == 0, message
    assert re.search(r"finished already: \d+ of 16 runs\n", message)
    assert_untouched(files)
    assert sorted(os.listdir(tmp_path)) == ["out", "small.yaml"]


@pytest.fixture
def _without_drawings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("experiments.running.pages.draw", lambda *_: [])
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_without_drawings")
def test_variations_do_not_collide_in_the_default_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path)
    assert run_cli("small.yaml") == 0
    first = tables_of(tmp_path / "results" / "small")
    for variation in (("--seeds", "3"), ("--set", "engine.block_size=32"), ("--set", "sweep={}")):
        capsys.readouterr()
        assert run_cli("small.yaml", *variation) == 2
        assert capsys.readouterr().err == (
            "error: --out results/small holds results of small with other settings, other input or "
            "other code; choose another --out, or replace them with --overwrite\n"
        )
        assert tables_of(tmp_path / "results" / "small") == first
    write_study(tmp_path, SMALL.replace("name: small", "name: other"), "other.yaml")
    assert run_cli("other.yaml", "--out", "results/small") == 2
    assert "holds results of small; choose another --out" in capsys.readouterr().err
    assert run_cli("small.yaml", "--set", "sweep={}", "--overwrite") == 0
    assert len((tmp_path / "results" / "small" / "runs.csv").read_text().splitlines()) == 3
    (tmp_path / "results" / "small" / "study.yaml").write_text("my own")
    assert run_cli("small.yaml", "--overwrite") == 2
    assert "holds study.yaml, changed since headroom wrote it" in capsys.readouterr().err
    assert (tmp_path / "results" / "small" / "study.yaml").read_text() == "my own"


@pytest.mark.usefixtures("_without_drawings")
def test_a_study_whose_name_ends_in_partial_is_one_like_any_other(tmp_path: Path) -> None:
    for name in ("x.partial", "x", "x.replaced"):
        write_study(tmp_path, ONE.replace("name: small", f"name: {name}"), "study.yaml")
        assert run_cli("study.yaml") == 0
    for name in ("x.partial", "x", "x.replaced"):
        manifest = json.loads((tmp_path / "results" / name / "manifest.json").read_text())
        assert manifest["study"] == name


@pytest.mark.usefixtures("_without_drawings")
def test_a_run_that_fails_leaves_an_empty_folder_of_the_user_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write_study(tmp_path, ONE + "stop_s: 1.0e-6\n")
    for out in ("mine", "new/er"):
        assert run_cli("small.yaml", "--out", out) == 2
    assert sorted(os.listdir(tmp_path)) == ["mine", "small.yaml"]
    assert os.listdir(tmp_path / "mine") == []


def test_of_runs_at_once_each_is_whole_or_refused(tmp_path: Path) -> None:
    """Two of one study and one of another begin together; whoever is last is there, whole."""
    same, other = write_study(tmp_path, ONE, "same.yaml"), write_study(tmp_path, ONE, "other.yaml")
    other.write_text(other.read_text().replace("num_requests: 20", "num_requests: 30"))
    started = [
        (study, start_cli(study, "--out", "out", "--jobs", 1, "--no-figures", cwd=tmp_path))
        for study in (same, other, same)
    ]
    ended = [(study, process.communicate(timeout=120)[1], process) for study, process in started]
    done = {study for study, _, process in ended if process.returncode == 0}
    assert len(done) == 1
    for study, message, process in ended:
        if process.returncode:
            assert process.returncode == 2
            assert message.startswith("error: --out out ")
            assert message.count("\n") == 1
            assert study not in done or "is being written by another run" in message
    record = MANIFESTS.read(tmp_path / "out" / "manifest.json")
    assert record is not None
    assert unchanged(tmp_path / "out", record) == record.files
    rows = len((tmp_path / "out" / "runs.csv").read_text().splitlines())
    alone = tables_of(tmp_path / "out")
    assert cli(tmp_path, done.pop(), "--out", "alone")[0] == 0
    assert tables_of(tmp_path / "alone") == alone
    assert rows == 2
    assert not (tmp_path / "out" / WORK).exists()
