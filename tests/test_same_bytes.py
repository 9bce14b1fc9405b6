"""``benchmarks.same_bytes``: what differs between two results is found, and named."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from benchmarks import same_bytes
from benchmarks.same_bytes import ROOT, Way, main
from experiments.cli.headroom import main as headroom
from hardware.compiled import COMPILED

NAME = "opt_175b"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of two ways to run a study, the same as yet."""
    engine, place = ("compiled", "compiled") if COMPILED else ("plain Python", "pure")
    monkeypatch.setattr(same_bytes, "HERE", (Way(ROOT, engine, 1), Way(ROOT, engine, 2)))
    one = tmp_path / NAME / f"here-{place}-1"
    assert headroom(["run", NAME, "--out", str(one), "--no-figures"]) == 0
    shutil.copytree(one, one.with_name(f"here-{place}-2"))
    return tmp_path


def test_what_is_there_is_compared_and_the_first_line_that_differs_is_shown(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([NAME, "--keep", str(kept)]) == 0
    assert capsys.readouterr().out.endswith(f"{NAME}: the same\n")
    _, other = sorted((kept / NAME).iterdir())
    manifest = json.loads((other / "manifest.json").read_text())
    table = other / sorted(name for name in manifest["results"] if name.endswith(".csv"))[0]
    lines = table.read_text().splitlines()
    lines[1] = lines[1][:-1] + "X"
    table.write_text("\n".join(lines) + "\n")
    manifest["results"][table.name] = hashlib.sha256(table.read_bytes()).hexdigest()
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert main([NAME, "--keep", str(kept)]) == 1
    said = capsys.readouterr().out
    assert f"{NAME}: {table.name} differs: " in said
    assert "--jobs 1 | " in said
    assert "line 2: " in said
    assert lines[1][-20:] in said


def test_results_of_another_engine_are_refused(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (kept / NAME).iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["machine"]["engine"] = "another"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main([NAME, "--keep", str(kept)]) == 2
    assert "ran with the engine another, expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rooflne_basics"], "roofline_basics"),
        (["--beside", "/"], "--beside / is no checkout of headroom"),
    ],
)
def test_what_it_refuses(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_times_of_this_machine_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv_cache_latency", "operator_classes", "decoder_vs_simulation"]) == 0
    assert capsys.readouterr().out.count("times of this machine, not compared") == 3
