"""Rows of a table at the inputs of the texts, for the goldens."""

from functools import cache

from experiments.texts.page import Page, Row
from experiments.texts.registry import table_schema


@cache
def page_of(table: str) -> Page:
    """The page with every default, which is what the texts take."""
    return table_schema(table)(name=table, table=table).page()


def row(table: str, quantity: str) -> Row:
    """The one row of this name."""
    (found,) = (row for row in page_of(table).rows if row.quantity == quantity)
    return found


def check(table: str, quantity: str, printed: float, digits: float) -> Row:
    """The row prints this figure, and its formula gives it to the last printed digit."""
    found = row(table, quantity)
    assert found.printed == printed
    assert found.text is not None
    assert abs(found.text - printed) <= digits / 2 * (1 + 1e-9)
    return found
