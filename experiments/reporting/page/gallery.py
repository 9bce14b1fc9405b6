"""The page that leads to the reports of many studies."""

from collections.abc import Sequence

from experiments.reporting.page.base import data_of
from experiments.reporting.page.sheet import Section, Sheet
from experiments.reporting.page.tables import Table
from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One report."""

    name: str
    kind: str
    about: str
    """What its study asks."""
    href: str
    report: str
    """The text of its page."""

    @property
    def answer(self) -> str:
        """The sentence that its page begins with."""
        verdict = data_of(self.report).get("verdict") or {}
        return str(verdict.get("text", ""))


def index(entries: Sequence[Entry], titles: dict[str, str]) -> Sheet:
    """Return the page of all reports, by kind; ``titles`` has the kinds in their order."""
    return Sheet(
        name="Reports",
        description="What each study asks, and what was found. Every report is one file that needs "
        "no network.",
        sections=[
            Section(title, table=_table([one for one in entries if one.kind == kind]))
            for kind, title in titles.items()
        ],
    )


def _table(entries: Sequence[Entry]) -> Table:
    rows = [({"text": one.name, "href": one.href}, one.about, one.answer) for one in entries]
    return Table(("study", "asks", "answer"), tuple(rows), keys=3)
