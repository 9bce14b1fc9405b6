"""The committed reference pages are those that the code would write now, and are complete."""

from pathlib import Path

import pytest

from experiments.cli import reference
from experiments.study.document import Study
from hardware.gpu import gpu_names
from model.spec import catalogue
from sim.measuring.metrics import METRICS
from sim.recording.result import REQUEST_COLUMNS
from sim.routers.registry import ROUTERS
from sim.settings.registry import ORDERS, POLICIES


@pytest.mark.parametrize("name", reference.PAGES)
def test_committed_page_is_what_the_code_says(name: str) -> None:
    committed = (reference.DOCS / name).read_text(encoding="utf-8")
    assert committed == reference.PAGES[name](), f"run headroom reference: {name}"


def test_pages_are_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--out", str(tmp_path / "docs")]) == 0
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == sorted(reference.PAGES)
    assert "study_reference.md" in capsys.readouterr().out
    assert reference.main(["--out", str(tmp_path / "docs")]) == 0
    (tmp_path / "docs" / "metrics.md").write_text("my own")
    assert reference.main(["--out", str(tmp_path / "docs")]) == 2
    assert "metrics.md is not a page of ours" in capsys.readouterr().err
    assert (tmp_path / "docs" / "metrics.md").read_text() == "my own"


def test_an_installed_package_has_no_docs_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "DOCS", tmp_path / "docs")
    assert reference.main([]) == 2
    assert "docs/ is in a checkout alone" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_every_key_and_name_has_its_place() -> None:
    page = reference.study_page()
    schema = Study.model_json_schema()
    for node in (schema, *schema["$defs"].values()):
        for key in node["properties"]:
            assert f"| `{key}` |" in page
    for name in (*gpu_names(), *catalogue(), *POLICIES, *ORDERS, *ROUTERS):
        assert f"`{name}`" in page


def test_every_key_says_what_it_means() -> None:
    """Only the word that picks a law may go without: the section's title and text explain it."""
    silent = [
        line
        for line in reference.study_page().splitlines()
        if line.startswith("| `") and line.endswith("|  |")
    ]
    assert {line.split("`")[1] for line in silent} <= {"process", "distribution"}


def test_every_link_within_the_page_has_an_anchor() -> None:
    page = reference.study_page()
    links = {part.split(")")[0] for part in page.split("](#")[1:]}
    assert len(links) > 15
    for link in links:
        assert page.count(f'<a id="{link}"></a>') == 1, link


def test_every_column_of_the_tables_is_explained() -> None:
    page = reference.metrics_page()
    for name in (*METRICS, *REQUEST_COLUMNS):
        assert f"`{name}`" in page
