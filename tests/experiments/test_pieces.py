"""Pieces: what is kept of a run until the results are whole."""

from pathlib import Path

import numpy as np
import pytest
from study_files import write_study

from experiments.running.packed import packed, unpacked
from experiments.running.pieces import (
    is_whole,
    read_columns,
    read_piece,
    read_requests,
    simulate_to,
)
from experiments.running.sweep import runs_of
from experiments.study.document import read_raw
from experiments.study.overrides import parse_overrides
from experiments.study.points import prepare


@pytest.mark.parametrize("columns", [(), ("finish_s", "status", "measured")])
def test_a_piece_is_read_as_it_was_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: tuple[str, ...]
) -> None:
    """A long one too, which is packed, and read one column at a time."""
    run = runs_of(prepare(read_raw(write_study(tmp_path))), tmp_path)[0]
    simulate_to(run.path, run.study, run.seed, columns=columns)
    names = ("finish_s", "status", "measured")
    short = dict(read_columns(run.path, names))
    assert is_whole(run.path)
    monkeypatch.setattr("experiments.running.pieces.ROWS", 7)
    simulate_to(run.path, run.study, run.seed, columns=columns)
    assert is_whole(run.path)
    long = dict(read_columns(run.path, names))
    assert set(long) == set(names)
    assert all(np.array_equal(long[name], short[name], equal_nan=True) for name in names)
    if not columns:
        assert (
            sum(len(each["status"]) for each in read_requests(run.path))
            == len(short["status"])
            == 20
        )
        assert read_piece(run.path).metrics["finished"] == 20
    run.path.write_bytes(run.path.read_bytes()[:-9])
    assert not is_whole(run.path)


def test_a_piece_that_is_simulated_again_is_read_again(tmp_path: Path) -> None:
    """What it tells is kept, but not longer than the file stays as it is."""
    first, second = (
        runs_of(prepare(read_raw(write_study(tmp_path), overrides)), tmp_path)[0]
        for overrides in ([], parse_overrides(["workload.num_requests=30"]))
    )
    simulate_to(first.path, first.study, first.seed)
    assert read_piece(first.path) is read_piece(first.path)
    assert read_piece(first.path).metrics["finished"] == 20
    simulate_to(first.path, second.study, second.seed)
    assert read_piece(first.path).metrics["finished"] == 30


def test_columns_come_back_as_they_were_packed() -> None:
    columns = {"time_s": np.array([0.5, np.nan]), "place": np.array([3, -1])}
    for each in (columns, {name: column[:0] for name, column in columns.items()}):
        found = unpacked(packed(each))
        assert list(found) == list(each)
        assert [column.dtype for column in found.values()] == [np.float64, np.int64]
        for name, column in each.items():
            np.testing.assert_array_equal(found[name], column)
