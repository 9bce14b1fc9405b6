"""Where output goes: closed, cut off, full, ASCII, or a terminal that would obey it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from study_files import ROOT, write_study

from experiments import run_study
from experiments.reporting.records import Records
from experiments.reporting.signs import printable
from experiments.reporting.table import COLUMNS, _grid
from experiments.reporting.terminal import Stream, console, guarded, screen, wrapped
from experiments.study.document import read_raw
from experiments.study.points import prepare


def shell(command: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line; PYTHON stands for the interpreter."""
    return subprocess.run(
        ["/bin/bash", "-c", command.replace("PYTHON", sys.executable)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


PLAIN = "PYTHON -m experiments.run small.yaml --jobs 1 --no-figures --out o"
CASES = {
    "stdout closed": (f"{PLAIN} >&-", {}),
    "stderr closed": (f"{PLAIN} 2>&-", {}),
    "nobody listens": (f"{PLAIN} --jobs 2 | true", {}),
    "all closed": (f"{PLAIN} --jobs 2 <&- >&- 2>&-", {}),
    "ASCII": (PLAIN, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}),
    "odd settings": (
        "PYTHON -m experiments.run small.yaml --jobs 1 --out o",
        {"MPLBACKEND": "nonsense", "TERM": "dumb", "COLUMNS": "1", "HOME": "/proc/1/nowhere",
         "MPLCONFIGDIR": "/proc/1/nowhere", "NO_COLOR": "1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("command", "environment"), CASES.values(), ids=CASES)
def test_results_are_whole_whatever_the_terminal(
    command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    write_study(tmp_path)
    done = shell(command, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (tmp_path / "o" / "summary.csv").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["--list", "small.yaml --dry-run"])
def test_a_full_disk_under_stdout_is_one_message(command: str, tmp_path: Path) -> None:
    write_study(tmp_path)
    done = shell(f"PYTHON -m experiments.run {command} >/dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_what_a_terminal_would_obey_is_written_out(tmp_path: Path) -> None:
    write_study(tmp_path)
    gpu = 'cluster.gpu={like: t4, name: "\\e[31mred\\u202e"}'
    done = shell(f"PYTHON -m experiments.run small.yaml --dry-run --set '{gpu}'", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\\x1b[31mred\\u202e" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_printable() -> None:
    assert printable("a\tb\n\x1b[0m\x07\x9b\u2067é中") == "a\tb\n\\x1b[0m\\x07\\x9b\\u2067é中"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_keeps_its_own_colours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "1")
    inner = Terminal()
    to = console(Stream(inner))
    assert to.width == 20
    to.print("\x1b[31m[/x] :smile:", style="bold")
    assert inner.getvalue() == "\x1b[1m\\x1b[31m[/x] :smile:\x1b[0m\n"


def test_a_terminal_breaks_between_words_a_pipe_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    text = "answer   two of h100-sxm, max_num_batched_tokens 8192"
    lines = wrapped(text, Terminal(), 9).splitlines()
    assert lines == ["answer   two of", "         h100-sxm,", "         max_num_batched_tokens",
                     "         8192"]  # fmt: skip
    assert wrapped(text, io.StringIO(), 9) == text


def test_a_closed_stream_takes_everything() -> None:
    inner = io.StringIO()
    inner.close()
    stream = Stream(inner)
    assert stream.write("text") == 4
    assert not stream.isatty()
    stream.flush()
    assert Stream(None).write("text") == 4


def test_characters_without_a_place_are_written_out() -> None:
    inner = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = Stream(inner)
    stream.write("± 1 ↗")
    stream.flush()
    assert inner.buffer.getvalue() == b"+- 1 \\u2197"


def test_streams_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with guarded():
        assert sys.stdout is not before[0]
        print("seen")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "seen\n"


def test_a_table_looks_the_same_in_a_pipe_and_in_a_wide_terminal(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    plan = prepare(read_raw(path))
    rows = Records.of_frame(run_study(path).summary).rows()
    rows[0]["saturated"] = 1.0
    key = plan.keys[0]

    def drawn(tall: bool = False, encoding: str = "utf-8") -> tuple[str, str]:
        """The table in a pipe, and as rich lays it out where there is room."""
        columns = [column for column in COLUMNS if column.metric in rows[0]]
        grid = _grid(plan, rows, columns, marked=True, tall=tall)
        texts = []
        for show in (screen, console):
            text = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
            show(Stream(text)).print(grid)
            text.flush()
            assert isinstance(text.buffer, io.BytesIO)
            texts.append(text.buffer.getvalue().decode(encoding))
        return texts[0], texts[1]

    for tall in (False, True):
        piped, laid_out = drawn(tall)
        assert piped == laid_out
        assert len(piped.splitlines()) >= 4 + len(rows)
    piped, laid_out = drawn(encoding="ascii")
    assert piped == laid_out
    assert piped.startswith("+--")
    for value in ("one\ntwo", "模型 ±3", "\x1b[31mred", "100 %s ", ""):
        rows[1][key] = value
        piped, laid_out = drawn()
        assert piped == laid_out
        # lines of a value stay within its row
        assert len(piped.splitlines()) == 4 + len(rows) + value.count("\n")
    for row in rows:
        row[key] = ""
    assert drawn()[0] == drawn()[1]
