"""docs/validate.md says what the code does: its columns, options, files and its example."""

import re
from pathlib import Path

import pytest

from experiments.cli.validate import _parser
from experiments.validation.predict import plan, predict
from experiments.validation.rows import METRICS, RunRow, read_table
from experiments.validation.tables import ERRORS, errors_table

PAGE = Path(__file__).parents[2] / "docs" / "validate.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("column", sorted(set(RunRow.model_fields) - {"measured"}))
def test_every_column_is_described(column: str) -> None:
    assert f"`{column}`" in TEXT


def test_measured_columns_and_those_of_errors_are_named() -> None:
    for name in METRICS:
        latency, _, _ = name.partition("_")
        assert f"`{name}`" in TEXT or f"`{latency}_*`" in TEXT
    assert ", ".join(ERRORS) in TEXT


def test_every_option_is_described() -> None:
    for action in _parser()._actions:
        for option in action.option_strings:
            if option.startswith("--") and option != "--help":
                assert option in TEXT


def test_the_example_is_predicted(tmp_path: Path) -> None:
    found = re.search(r"```csv\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    table = tmp_path / "runs.csv"
    table.write_text(found[1], encoding="utf-8")
    planned = plan(read_table(table), seeds=1)
    assert planned.skipped == ()
    errors = errors_table(predict(planned.tasks)[0])
    assert errors.metric.tolist() == ["ttft_mean_ms", "e2e_mean_ms"]
    # Measured on a real server: the prediction is of that size.
    assert errors.abs_error_pct.max() < 60
