"""Files that come with the code, and how their rows are checked."""

from pathlib import Path

import pytest

import hardware
from hardware.relatives import Relative
from hardware.yaml_file import Row, read_bundled, read_yaml, validated
from model.dataclass import dataclass

FOLDER = Path(hardware.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_bundled_file_says_the_same_in_yaml_1_1_and_1_2(path: Path) -> None:
    assert read_bundled(path) == read_yaml(path)


@dataclass(frozen=True)
class Link(Row):
    """One row."""

    rate: float


@dataclass(frozen=True)
class Links(Row):
    """Rows by name."""

    links: dict[str, Link]
    note: str = ""


def test_rows_are_made_of_what_stands_in_a_file() -> None:
    assert validated(Links, {"links": {"a": {"rate": 2}}}, "f") == Links({"a": Link(2.0)})


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"links": {"a": {"rate": "2"}}}, "f: links.a.rate = '2': Input should be a valid number"),
        ({"links": {"a": {}}}, "f: links.a.rate: missing"),
        ({"links": {"a": {"rate": 2, "more": 1}}}, "f: links.a.more: unknown key"),
        ({"links": {}, "nots": ""}, "f: nots: unknown key; did you mean 'note'?"),
    ],
)
def test_mistakes_in_rows_are_told(data: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match="f: ") as error:
        validated(Links, data, "f")
    assert str(error.value) == complaint


def test_figures_of_a_relative_have_a_source() -> None:
    with pytest.raises(ValueError, match=r"f: .*: figures without a source"):
        validated(Relative, {"kernels": "l40s", "read": 0.9}, "f")
