"""Byte code of templates beside them: the same pages with it, without it, where it is broken."""

import shutil
import sys
from pathlib import Path

import jinja2
import pytest

from experiments.reporting.page.base import TEMPLATES
from experiments.reporting.page.compiled_templates import cache_of

WORDS = {"style_sha": "s", "script_shas": [], "scripts": [], "style": "", "data": "{}", "name": "n"}


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "a.j2").write_text("Hello {{ name }}!", encoding="utf-8")
    return tmp_path


def page(folder: Path) -> str:
    loader = jinja2.FileSystemLoader(folder)
    environment = jinja2.Environment(loader=loader, bytecode_cache=cache_of(folder))
    return environment.get_template("a.j2").render(name="you")


def kept(folder: Path) -> list[Path]:
    return list((folder / "__pycache__").iterdir())


def test_a_template_is_compiled_once(templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page(templates) == "Hello you!"
    assert len(kept(templates)) == 1
    monkeypatch.setattr(jinja2.Environment, "compile", None)
    assert page(templates) == "Hello you!"


def test_another_template_is_compiled_again(templates: Path) -> None:
    page(templates)
    (templates / "a.j2").write_text("Bye {{ name }}!", encoding="utf-8")
    assert page(templates) == "Bye you!"
    assert page(templates) == "Bye you!"


@pytest.mark.parametrize("keep", [0, 5, 30, 60, 100])
def test_what_is_broken_is_as_good_as_none(templates: Path, keep: int) -> None:
    page(templates)
    (file,) = kept(templates)
    file.write_bytes(file.read_bytes()[:keep])
    assert page(templates) == "Hello you!"


def test_nothing_is_kept_where_python_keeps_nothing(
    templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert page(templates) == "Hello you!"
    assert not (templates / "__pycache__").exists()


def test_a_folder_that_cannot_be_made_is_no_fault(templates: Path) -> None:
    (templates / "__pycache__").write_text("a file", encoding="utf-8")
    assert page(templates) == "Hello you!"


def test_our_own_templates_are_the_same_from_byte_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "templates"
    shutil.copytree(TEMPLATES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    pages = []
    for without in (True, False, False):
        monkeypatch.setattr(sys, "dont_write_bytecode", without)
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder), bytecode_cache=cache_of(folder)
        )
        pages.append(environment.get_template("base.html.j2").render(**WORDS))
    assert pages[0] == pages[1] == pages[2]
    assert "<title>n" in pages[0]
    assert kept(folder)
