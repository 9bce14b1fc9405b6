"""Studies that a program makes: a mapping with what a file would hold."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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


@pytest.mark.parametrize(
    "values", [(1, 4), range(1, 5, 3), np.array([1, 4]), pd.Series([1, 4]), [np.int64(1), 4]]
)
def test_numbers_of_numpy_and_pandas_are_numbers(values: Any) -> None:
    study = load_study(small(), {"sweep": {"engine.max_num_seqs": values}, "seeds": np.int64(1)})
    assert study == load_study(small(), {"sweep": {"engine.max_num_seqs": [1, 4]}, "seeds": 1})
    assert study == load_study(small() | {"sweep": {"engine.max_num_seqs": values}, "seeds": 1})


@pytest.mark.parametrize(
    ("study", "settings", "told"),
    [
        (5, None, "study = 5, expected a path, a name or a mapping"),
        (None, None, "study = None, expected a path"),
        ({}, ["a=1"], r"settings = \['a=1'\], expected a mapping of dotted keys to values"),
        ({}, {3: 1}, "settings: 3 is no key, expected a text"),
    ],
)
def test_what_is_no_study_and_no_settings(study: Any, settings: Any, told: str) -> None:
    for call in (load_study, run_study, run_search):
        with pytest.raises(TypeError, match=told):
            call(study, settings=settings)


def test_a_mapping_inside_itself() -> None:
    given = small()
    given["workload"] = given
    with pytest.raises(StudyError, match="nested too deeply, expected at most 64 levels"):
        load_study(given)


@pytest.mark.parametrize("jobs", [0, "2", 1.5])
def test_jobs_are_counted(jobs: Any) -> None:
    for call in (run_study, run_search):
        with pytest.raises(ValueError, match=r"jobs = .*, expected a whole number of at least 1"):
            call(small(), jobs=jobs)


def test_what_python_can_call_is_listed() -> None:
    assert {"load_study", "run_study", "run_search"} <= set(dir(experiments))
