"""``headroom gallery``: reports of bundled studies, and a page that leads to them."""

from contextlib import suppress
from pathlib import Path

import pytest

from experiments.cli.gallery import QUICK, main, settings_of
from experiments.cli.kinds import check_other
from experiments.reporting.page.base import data_of
from experiments.study.document import read_raw
from experiments.study.overrides import parse_overrides


def test_it_writes_a_report_of_each_study_and_a_page_that_leads_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(out), "roofline_basics"]) == 0
    assert "roofline_basics: running" in capsys.readouterr().err
    index = (out / "index.html").read_text(encoding="utf-8")
    assert 'href="roofline_basics/report.html"' in index
    report = (out / "roofline_basics" / "report.html").read_text(encoding="utf-8")
    assert data_of(report)["verdict"]["text"] in index
    # Another call adds a study and runs none again; options may stand between its words.
    assert main([str(out), "--quick", "roofline_basics", "--jobs", "1", "opt_175b"]) == 0
    said = capsys.readouterr().err
    assert "roofline_basics: its report is there" in said
    assert "opt_175b: running" in said
    index = (out / "index.html").read_text(encoding="utf-8")
    assert 'href="roofline_basics/report.html"' in index
    assert 'href="opt_175b/report.html"' in index


def test_a_page_that_is_not_written_to_its_end_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main([str(out), "roofline_basics"]) == 0
    before = (out / "index.html").read_bytes()

    def half(path: Path, _: object) -> None:
        path.write_text("<html>")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.reporting.page.sheet.write_sheet", half)
    with suppress(OSError):
        main([str(out), "roofline_basics"])
    assert (out / "index.html").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "roofline_basics"]


def test_nothing_that_is_not_ours_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("mine")
    assert main([str(tmp_path), "roofline_basics"]) == 2
    assert "index.html is not headroom's" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "mine"
    assert main([str(tmp_path / "index.html"), "roofline_basics"]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html"]


def test_a_wrong_name_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["out", "rofline_basics"]) == 2
    assert "roofline_basics" in capsys.readouterr().err
    assert main(["out", "--without", "nothing"]) == 2
    assert "study 'nothing'" in capsys.readouterr().err


def test_a_study_that_cannot_be_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "roofline_basics").mkdir(parents=True)
    (tmp_path / "out" / "roofline_basics" / "report.html").write_text("mine")
    assert main([str(tmp_path / "out"), "roofline_basics"]) == 2
    assert "without a report: roofline_basics" in capsys.readouterr().err
    assert (tmp_path / "out" / "roofline_basics" / "report.html").read_text() == "mine"


def test_what_is_shortened_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUICK, "prefix_caching", ("seeds=2", "workload.num_requests=60"))
    out = tmp_path / "out"
    told = "Shortened for the gallery: seeds=2, workload.num_requests=60."
    assert main([str(out), "prefix_caching", "opt_175b", "--quick", "--jobs", "1"]) == 0
    report = (out / "prefix_caching" / "report.html").read_text(encoding="utf-8")
    assert told in report
    index = (out / "index.html").read_text(encoding="utf-8")
    assert index.count("Shortened for the gallery") == 1
    capsys.readouterr()
    assert main([str(out), "prefix_caching", "--quick", "--jobs", "1"]) == 0
    assert "its report is there" in capsys.readouterr().err
    assert main([str(out), "opt_175b"]) == 0
    assert "opt_175b: its report is there" in capsys.readouterr().err


@pytest.mark.parametrize("name", QUICK)
def test_what_is_shortened_can_be_run(name: str) -> None:
    loaded = read_raw(name, parse_overrides(settings_of(name)))
    check_other(loaded)
