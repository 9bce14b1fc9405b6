"""Pages that are a row of sections: searches, comparisons, formula tables, the gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from experiments.reporting.page import base
from experiments.reporting.page.figures import Figure
from experiments.reporting.page.tables import Table
from model.dataclass import dataclass

GOOD, BAD, OPEN, NONE = "kept", "missed", "undecided", "none"
"""States of an answer, as the style knows them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, in sentences."""

    text: str
    state: str = NONE
    more: str = ""
    about: str = ""
    """What it rests on, in small print."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with figures and a table beneath; without any of them it is left out."""

    title: str
    caption: str = ""
    figures: Sequence[Figure] = ()
    table: Table | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        has_rows = self.table is not None and bool(self.table.rows)
        return not (has_rows or any(figure.rows for figure in self.figures))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One page."""

    name: str
    description: str = ""
    basis: str = ""
    answer: Answer | None = None
    cards: Sequence[Mapping[str, str]] = ()
    """``title``, ``value`` and ``note`` of each."""
    sections: Sequence[Section] = ()
    notes: Sequence[str] = ()
    texts: Sequence[tuple[str, str]] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)


def card(title: str, value: str, note: str = "") -> dict[str, str]:
    """Return a figure that a buyer looks at first."""
    return {"title": title, "value": value, "note": note}


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Write a page."""
    answer = sheet.answer
    verdict = answer and {
        "state": answer.state, "text": answer.text, "worst": answer.more, "counts": answer.about,
    }  # fmt: skip
    shown = [section for section in sheet.sections if not section.is_empty]
    figures = [[figure for figure in section.figures if figure.rows] for section in shown]
    told = {
        "verdict": verdict or {},
        "figures": [figure.told() for each in figures for figure in each],
    }
    counts = [len(each) for each in figures]
    text = base.rendered(
        "sheet.html.j2", ("sheet.js",), told,
        name=sheet.name, description=sheet.description, basis=sheet.basis, verdict=verdict,
        cards=list(sheet.cards), notes=list(sheet.notes), texts=list(sheet.texts),
        definitions=dict(sheet.definitions),
        sections=[
            {
                "title": section.title, "caption": section.caption,
                "table": section.table and section.table.told(),
                "figures": range(sum(counts[:place]), sum(counts[: place + 1])),
            }
            for place, section in enumerate(shown)
        ],
    )  # fmt: skip
    base.write(path, text)
