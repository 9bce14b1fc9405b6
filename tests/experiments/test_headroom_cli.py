"""``headroom``: one name for every command, and the JSON Schema that it prints for editors."""

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import experiments
from experiments.cli.headroom import COMMANDS, main
from experiments.study.bundled import bundled_studies
from experiments.study.yaml_source import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCHEMA = json.loads((ROOT / "docs" / "study.schema.json").read_text(encoding="utf-8"))
HEAVY = {"numpy", "pandas", "pydantic", "scipy", "simpy", "matplotlib", "torch", "rich"}


def python(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)


def complaints(text: str) -> list[str]:
    """The keys that the schema complains about, dotted."""
    found = Draft202012Validator(SCHEMA).iter_errors(parse_yaml(text, "study").data)
    return sorted({".".join(map(str, error.absolute_path)) for error in found})


def test_the_console_command_is_installed_from_here() -> None:
    module, name = PROJECT["project"]["scripts"]["headroom"].split(":")
    assert callable(getattr(import_module(module), name))


def test_every_command_helps_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        help_text = capsys.readouterr().out
        assert f"experiments {name}" in help_text.splitlines()[0]
        assert "``" not in help_text


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["list", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    asked = f"from experiments.cli.headroom import main; main({words!r})"
    loaded = python("-c", f"{asked}; import sys; print(*sys.modules)").stdout.splitlines()[-1]
    assert not HEAVY & set(loaded.split())


ENDING = """
import atexit
from experiments.cli.command import start

class Made:
    def __del__(self):
        print("taken apart")

made = Made()

def main():
    atexit.register(print, "done at the end")
    print("told")
    {ends}

start(main)
"""


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [("return 3", 3, ""), ("raise ValueError(4)", 1, "ValueError: 4"), ("exit(2)", 2, "")],
)
def test_a_command_ends_at_once_and_leaves_nothing_undone(
    ends: str, status: int, said: str
) -> None:
    done = python("-c", ENDING.format(ends=ends))
    assert done.returncode == status
    assert done.stdout.startswith("told\ndone at the end\n")
    assert said in done.stderr
    assert ("taken apart" in done.stdout) == (status != 3)


def test_it_is_the_same_command(tmp_path: Path) -> None:
    words = ("run", "batching_sweep", "--dry-run", "--set", "engine.max_num_seqs=8")
    first = python("-m", "experiments", *words)
    second = python("-m", "experiments.run", *words[1:])
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout != ""


def test_versions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    own, libraries = capsys.readouterr().out.splitlines()
    assert own.startswith(f"headroom {experiments.__version__}, engine: ")
    assert {"python", "numpy", "simpy"} <= {each.split()[0] for each in libraries.split(", ")}


def test_an_unknown_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: command rnu: did you mean run?")


@pytest.mark.parametrize("path", bundled_studies().values(), ids=lambda path: path.stem)
def test_the_schema_accepts_every_bundled_study(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("enginee: {}", [""]),
        ("engine: {block_sise: 16}", ["engine"]),
        ("engine: {max_num_seqs: many}\nseeds: 0", ["engine.max_num_seqs", "seeds"]),
        ("kind: servin", ["kind"]),
        ("kind: roofline\ntable: opt_175b\nbatch: 0", ["batch"]),
        ("workload: {arrivals: {kind: poisson, rate_per_s: -1}}", ["workload.arrivals"]),
    ],
)
def test_the_schema_refuses(text: str, keys: list[Any]) -> None:
    assert complaints(text) == keys


@pytest.mark.parametrize(
    "words",
    [
        ["run", "kv_cache_latency"],
        ["run", "decoder_vs_simulation"],
        ["calibrate", "--model", "opt-125m"],
    ],
)
def test_what_a_plain_installation_leaves_out_is_named(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.startswith("model.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([*words, "--out", str(tmp_path / "out.yaml")]) == 2
    told = capsys.readouterr().err
    assert "error: this needs torch: pip install -e '.[torch]' in a checkout\n" in told
    assert not (tmp_path / "out.yaml").exists()


@pytest.mark.parametrize("words", [["run", "--list"], ["validate", "runs.csv", "--out", "o"]])
def test_a_python_without_the_packages_is_told_where_they_are(
    words: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-S", "-m", "experiments", *words]  # -S: no packages but its own
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f" is not installed for {sys.executable}: use the .venv" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study.yaml", "--dryrun"], "--dryrun; did you mean --dry-run?; --help shows"),
        (["study.yaml", "--plugin", "study.yaml"], "study.yaml: expected a file such as my_module"),
        (["-"], "study -: expected a file; what comes through a pipe is /dev/stdin"),
        (["stuty.yaml"], "study stuty.yaml does not exist (there is study.yaml), and no bundled"),
    ],
)
def test_what_was_meant_on_the_command_line(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text("name: x\n")
    assert main(["run", *words]) == 2
    assert told in capsys.readouterr().err
