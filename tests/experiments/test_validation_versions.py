"""Versions and switches of measured runs, as people write them."""

import pytest

from experiments.validation.rows import row_of
from experiments.validation.settings import setup_of, switched_on, version_of
from tests.experiments.measured_runs import run


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.15.1", (0, 15, 1)), ("0.23.0 (+patch)", (0, 23, 0)), ("~2025-05 (vllm 0.8.x)", (0, 8)),
     ("v0.6.3.post1", (0, 6, 3)), ("2025-05", None), (None, None)],
)  # fmt: skip
def test_versions_in_words(text: str | None, version: tuple[int, ...] | None) -> None:
    assert version_of(text) == version


def test_switches_in_words() -> None:
    assert [switched_on(text) for text in ("on(v1 default)", "True", "enabled")] == [True] * 3
    assert [switched_on(text) for text in ("off", "False", "disabled")] == [False] * 3
    assert [switched_on(text) for text in (None, "default (off)")] == [None, None]


def test_a_date_tells_the_version() -> None:
    def version_of_run(run_id: str, **cells: str) -> tuple[int, ...] | None:
        return setup_of(row_of(run(run_id, **cells)), 1000).version

    unstated = {"engine_version": ""}
    assert version_of_run("a", engine_version="latest @2025-05") == (0, 8, 5)
    assert version_of_run("a", engine_version="latest @2025-05-28") == (0, 9, 0)
    assert version_of_run("a", engine_version="nightly 2026-02") == (0, 16, 0)
    assert version_of_run("a", **unstated, notes="measured=2026-02") == (0, 15, 0)
    assert version_of_run("bench_2025-06-30_22-45", **unstated) == (0, 9, 0)
    assert version_of_run("20250630-2245", **unstated) is None
    assert version_of_run("bench_2025-06-30", engine_version="0.15.1") == (0, 15, 1)
