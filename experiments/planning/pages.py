"""The report of a search: one HTML page that needs no other file, no script and no network."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.reporting.page.base import TEMPLATES


@dataclass(frozen=True, slots=True)
class Section:
    """A table of texts, with what is said about it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    keys: int = 1
    """How many columns from the left are words."""


def write_page(
    path: Path,
    *,
    name: str,
    description: str,
    answer: Sequence[str],
    sections: Sequence[Section],
    pictures: Sequence[tuple[str, Path]],
    notes: Sequence[str],
    texts: Sequence[tuple[str, str]],
) -> None:
    """Write the page.

    Args:
        path: of the page.
        name: of the study.
        description: of the study; may be empty.
        answer: what was found, a sentence each.
        sections: tables, in order; one without rows is left out.
        pictures: title and PNG file of each, taken into the page.
        notes: what a reader must know first.
        texts: title and preformatted text of what stands at the end.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("search.html.j2").render(
        name=name,
        description=description,
        answer=list(answer),
        sections=[section for section in sections if section.rows],
        pictures=[
            (title, b64encode(picture.read_bytes()).decode("ascii")) for title, picture in pictures
        ],
        notes=list(notes),
        texts=[(title, text) for title, text in texts if text],
    )
    path.write_text(page + "\n", encoding="utf-8", newline="\n")
