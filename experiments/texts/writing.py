"""Puts a table into its results folder, whole or not at all.

TABLE.csv        one row per quantity: text's formula, printed, formula's value, exact, note
one .csv, .png   per curve and picture
TABLE.md         the same for reading, pictures included
report.html      the same as a page
study.yaml       resolved; running it again repeats the study
manifest.json    versions, machine, when, how long; and what of the folder is ours
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.study.errors import StudyError
from experiments.texts.page import COLUMNS, Page, Row, TableStudy
from experiments.texts.sheet import figure, sheet

if TYPE_CHECKING:
    from pandas import DataFrame

REPORT = "report.html"
CHANGED = (
    "Inputs differ from those of the texts, so the figures that the texts print are left out; "
    "their formulas are evaluated all the same."
)


def run_table(study: TableStudy, out: Path, overwrite: bool = False) -> Page:
    """Compute the table and leave its folder behind.

    Raises:
        StudyError: inputs that cannot be computed, or ``out`` cannot be written or holds what may
            not be replaced.
        RunError: something that is not ours came in the way of the results.
    """
    from experiments.running.folder import Wanted, check, results_folder
    from experiments.running.publish import claimed, publish

    started = time.perf_counter()
    place = results_folder(out)
    names = {"study.yaml", "manifest.json", f"{study.table}.csv", f"{study.table}.md", REPORT}
    wanted = Wanted(frozenset(names), study.name, _identity(study), overwrite)
    check(place, wanted, by_content=False)
    page = computed(study)
    names |= {f"{name}.csv" for name in page.curves} | {f"{name}.png" for name in page.pictures}
    with claimed(place, replace(wanted, names=frozenset(names))) as work:
        _write(study, page, work.new)
        publish(work, _facts(study, time.perf_counter() - started))
    return page


def _write(study: TableStudy, page: Page, folder: Path) -> None:
    from experiments.reporting.drawing import drawing
    from experiments.reporting.page.sheet import write_sheet
    from experiments.running.assemble import write_csv

    write_csv(frame(page), folder / f"{study.table}.csv")
    for name, curve in page.curves.items():
        write_csv(curve, folder / f"{name}.csv")
    for name, picture in page.pictures.items():
        path = folder / f"{name}.png"
        with drawing(path, picture.width_in, picture.height_in) as figure:
            picture.draw(figure)
    note = "" if study.has_inputs_of_the_texts() else CHANGED
    text = markdown(page, note)
    (folder / f"{study.table}.md").write_text(text, encoding="utf-8", newline="\n")
    _write_study(study, folder / "study.yaml")
    resolved = (folder / "study.yaml").read_text(encoding="utf-8")
    write_sheet(folder / REPORT, sheet(page, study.name, note, resolved))


def computed(study: TableStudy) -> Page:
    """Return the page of a study; printed figures only where they belong to its inputs.

    Raises:
        StudyError: inputs that cannot be computed.
    """
    try:
        page = study.page()
    except ValueError as error:
        raise StudyError.of(str(error)) from error
    if study.has_inputs_of_the_texts():
        return page
    return replace(page, rows=[replace(row, printed=None) for row in page.rows])


def frame(page: Page) -> "DataFrame":
    """Return the rows as a table with the columns of `COLUMNS`."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in page.rows], columns=list(COLUMNS))


def markdown(page: Page, note: str = "") -> str:
    """Return the page for reading: rows by source, then pictures."""
    parts = [f"# {page.title}", page.answer, page.intro, note]
    for source in dict.fromkeys(row.source for row in page.rows):
        parts.append(f"## {source[0].upper()}{source[1:]}")
        parts.append(_table([row for row in page.rows if row.source == source]))
    for name, picture in page.pictures.items():
        parts += [f"![{picture.caption}]({name}.png)", f"*{picture.caption}*"]
    parts.append("The counts are derived in docs/formulas.md.")
    return "\n\n".join(part for part in parts if part) + "\n"


def lines(page: Page) -> list[str]:
    """Return the table for a terminal: quantity, printed, text, exact."""
    heading = ("", "printed", "text", "exact", "")
    cells = [
        (row.quantity, *(figure(x) for x in (row.printed, row.text, row.exact)), row.unit)
        for row in page.rows
    ]
    widths = [max(len(row[i]) for row in (heading, *cells)) for i in range(5)]
    return [
        f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e}".rstrip()
        for a, b, c, d, e in (heading, *cells)
    ]


def _table(rows: Sequence[Row]) -> str:
    table = [("quantity", "formula of the text", "printed", "its value", "exact", "unit", "note")]
    table.append(("---", "---", "---:", "---:", "---:", "---", "---"))
    for row in rows:
        formula = f"`{row.formula}`" if row.formula else ""
        figures = (figure(row.printed), figure(row.text), figure(row.exact))
        table.append((row.quantity, formula, *figures, row.unit, row.note))
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |" for r in table)


def _write_study(study: TableStudy, path: Path) -> None:
    from experiments.running.assemble import write_plain_yaml

    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# Resolved: every default is written out. Running this file reproduces the\n")
        file.write("# folder that it lies in.\n")
        write_plain_yaml(study.model_dump(mode="json"), file)


def _identity(study: TableStudy) -> str | None:
    from experiments.running.identity import code_digest, digest_of

    content = study.model_dump(mode="json", exclude={"description"})
    return None if study.timed else digest_of([content, code_digest()])


def _facts(study: TableStudy, wall_s: float) -> dict[str, Any]:
    from experiments.running.identity import code_digest
    from experiments.running.versions import machine, versions

    return {
        "kind": study.kind,
        "table": study.table,
        "versions": versions() | _torch_version(),
        "code_sha256": code_digest(),
        "machine": machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(wall_s, 3),
    }


def _torch_version() -> dict[str, str]:
    """The version of torch, if the table needed it."""
    torch = sys.modules.get("torch")
    return {} if torch is None else {"torch": str(torch.__version__)}
