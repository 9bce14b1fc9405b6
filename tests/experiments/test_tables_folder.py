"""Every table has a study and goldens, and its folder is whole or not there."""

import json
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from experiments.cli import run
from experiments.cli.kinds import check_other
from experiments.reporting.page.base import data_of
from experiments.study.bundled import bundled_studies
from experiments.study.document import read_raw
from experiments.study.kinds import kind_of
from experiments.texts.page import COLUMNS, TableStudy
from experiments.texts.registry import TABLES, table_schema

GOLDEN_MODULES = (
    "test_tables_memory",
    "test_tables_attention",
    "test_tables_forward_pass",
    "test_tables_bounds",
    "test_tables_operator_classes",
)
COMPUTED = [name for name in TABLES if name != "operator_classes"]


def test_every_table_has_goldens_with_a_source() -> None:
    covered: set[str] = set()
    sources = ("ssignment", "ecture notes", "log on", "Leviathan et al.", "Ivanov et al.")
    for name in GOLDEN_MODULES:
        if name == "test_tables_operator_classes":
            pytest.importorskip("torch")
        module = import_module(name)
        covered |= module.GOLDENS
        for function, test in vars(module).items():
            if function.startswith("test_") and "belongs" not in function:
                assert any(source in (test.__doc__ or "") for source in sources), function
    assert covered == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_a_bundled_study_at_the_inputs_of_the_texts(name: str) -> None:
    loaded = read_raw(name)
    assert kind_of(loaded) == "roofline"
    study = check_other(loaded)
    assert isinstance(study, TableStudy)
    assert study.table == name
    assert study.has_inputs_of_the_texts()
    own = set(table_schema(name).model_fields) - {"name"}
    assert set(loaded.raw) - {"name"} == own, "a bundled study shows every key"


@pytest.mark.parametrize("name", COMPUTED)
def test_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run.main([name, "--out", str(out)]) == 0
    assert "exact" in capsys.readouterr().out
    page = (out / f"{name}.md").read_text()
    table = pd.read_csv(out / f"{name}.csv")
    assert list(table.columns) == list(COLUMNS)
    assert all(quantity in page for quantity in table["quantity"])
    pictures = list(out.glob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size > 10_000
        assert f"({picture.name})" in page
    report = (out / "report.html").read_text(encoding="utf-8")
    told = data_of(report)
    assert len(told["figures"]) >= len(pictures)
    assert all(figure["rows"] for figure in told["figures"])
    assert told["verdict"]["text"].endswith(".")
    assert "data:image" not in report
    assert len(report) < 70_000
    assert json.loads((out / "manifest.json").read_text())["table"] == name
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run.main([str(out / "study.yaml"), "--out", str(out)]) == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {n for n in before if before[n] != after.get(n)} <= {"manifest.json"}


def test_changed_inputs_leave_out_what_is_printed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run.main(["opt_175b", "--set", "batch=64", "--out", str(out)]) == 0
    table = pd.read_csv(out / "opt_175b.csv")
    assert table["printed"].isna().all()
    assert table["text"].notna().all()
    assert "Inputs differ" in (out / "opt_175b.md").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["table=roofline_basis"], "did you mean roofline_basics"),
        (["tokns=5"], "did you mean tokens"),
        (["tokens=0"], "tokens = 0"),
        (["gpu=a1000"], "a1000"),
        (["num_heads=7"], "num_heads = 7 does not divide hidden_size = 4096"),
    ],
)
def test_mistakes_end_in_one_message_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    out = tmp_path / "out"
    options = [option for setting in settings for option in ("--set", setting)]
    assert run.main(["a100_bounds", "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_table_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "mine.yaml"
    study.write_text("kind: roofline\n")
    assert run.main([str(study), "--out", str(tmp_path / "out")]) == 2
    assert "table: missing, expected one of" in capsys.readouterr().err


def test_acceptance_rates_are_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "acceptance_rates=[1.5]", "--out", str(tmp_path / "out")]
    assert run.main(["speculative_decoding_bound", *options]) == 2
    assert "acceptance_rates = 1.5, expected within 0 and 1" in capsys.readouterr().err


def test_dry_run_computes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run.main(["operator_classes", "--dry-run", "--out", str(out)]) == 0
    assert "nothing was computed" in capsys.readouterr().out
    assert not out.exists()


def test_bundled_tables_are_those_of_the_registry() -> None:
    bundled = {name for name in bundled_studies() if kind_of(read_raw(name)) == "roofline"}
    assert bundled == set(TABLES)
