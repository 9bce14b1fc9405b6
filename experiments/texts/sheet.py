"""The page of a formula table: what texts say beside what is counted, source by source."""

import re
from collections.abc import Sequence

from experiments.reporting.page.sheet import Answer, Section, Sheet
from experiments.reporting.page.tables import Table
from experiments.texts.page import COLUMNS, PROJECT, Page, Row

HEADINGS = ("quantity", "formula of the text", "printed", "its value", "exact", "note")
POWERS = {1e9: "G", 1e12: "T"}
SYMBOLS = {"FLOP": "FLOP", "bytes": "B"}
"""Units that take a letter of ``POWERS``."""


def sheet(page: Page, name: str, note: str, study: str) -> Sheet:
    """Return the page.

    Args:
        page: what was computed.
        name: of the study.
        note: what else a reader must know; may be empty.
        study: the text of the study file.
    """
    sources = dict.fromkeys(row.source for row in page.rows)
    return Sheet(
        name=name,
        description=page.title,
        answer=Answer(page.answer, about=re.sub(r"`([^`]*)`", r"“\1”", page.intro)),
        sections=[
            *(
                Section(picture.caption.rstrip("."), figures=picture.charts)
                for picture in page.pictures.values()
            ),
            *(
                Section(
                    f"{source[:1].upper()}{source[1:]}",
                    "" if source == PROJECT else "What the text says, and what is counted here.",
                    table=_table([row for row in page.rows if row.source == source]),
                )
                for source in sources
            ),
        ],
        notes=[*filter(None, [note]), "The counts are derived in docs/formulas.md."],
        texts=[("Study", study)],
        definitions=COLUMNS,
    )


def figure(value: float | None) -> str:
    """Write a figure with six digits; counts in full, as far as eleven."""
    if value is None:
        return ""
    if float(value).is_integer() and abs(value) < 1e11:
        return f"{value:,.0f}"
    return f"{value:.6g}"


def measured(value: float | None, unit: str) -> str:
    """Write a figure with its unit; large ones of some units by powers of a thousand."""
    if value is None:
        return ""
    power = max((each for each in POWERS if abs(value) >= each), default=None)
    if unit in SYMBOLS and power is not None:
        return f"{value / power:.6g} {POWERS[power]}{SYMBOLS[unit]}"
    return f"{figure(value)}{unit}" if unit == "%" else f"{figure(value)} {unit}".rstrip()


def _table(rows: Sequence[Row]) -> Table:
    """The rows of a source; a column that none of them fills is left out."""
    cells = [
        (
            row.quantity, row.formula,
            *(measured(x, row.unit) for x in (row.printed, row.text, row.exact)), row.note,
        )
        for row in rows
    ]  # fmt: skip
    kept = [place for place in range(len(HEADINGS)) if any(row[place] for row in cells)]
    return Table(
        tuple(HEADINGS[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in cells),
        keys=sum(place < 2 for place in kept),
    )
