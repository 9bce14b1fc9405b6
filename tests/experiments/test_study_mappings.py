"""Studies that a program makes: a mapping with what a file would hold."""

import csv
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from study_files import SMALL, write_study

import experiments
from experiments import load_study, run_search, run_study
from experiments.study.errors import StudyError


def small() -> dict[str, object]:
    found = YAML(typ="safe").load(SMALL)
    assert isinstance(found, dict)
    return found


def test_a_mapping_is_as_good_as_its_file(tmp_path: Path) -> None:
    run_study(small(), out=tmp_path / "mapping")
    run_study(write_study(tmp_path, SMALL), out=tmp_path / "file")
    one, two = (tmp_path / name / "summary.csv" for name in ("mapping", "file"))
    assert one.read_bytes() == two.read_bytes()
    assert len(list(csv.reader(one.open(encoding="utf-8")))) > 1


def test_what_is_wrong_with_a_mapping_is_told_without_lines() -> None:
    with pytest.raises(StudyError, match=r"^study: cluster\.gpu = 'a1000' is not in the catalogue"):
        load_study({**small(), "cluster": {"gpu": "a1000"}})
    with pytest.raises(StudyError, match=r"study study is of kind serving, expected one of"):
        run_search(small())


def test_a_mapping_is_left_as_it_was() -> None:
    given = small()
    load_study(given, {"engine.block_size": 32})
    assert given == small()


def test_what_python_can_call_is_listed() -> None:
    assert {"load_study", "run_study", "run_search"} <= set(dir(experiments))
