"""Fits of one operator by the numbers that a table of kernel times has it in."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from experiments.calibrating.kernel_tables import NUMBERS, Table
from hardware.prices.kernels import HeldOut
from hardware.prices.mixer_kernels import Numbers
from hardware.prices.surface import Surface

if TYPE_CHECKING:
    from pandas import DataFrame

Found = dict[Numbers, tuple[Surface, HeldOut]]
"""Surfaces, and how well they predict shapes that they have not seen."""


def parts(table: Table, column: str) -> "Iterator[tuple[Numbers, DataFrame]]":
    """Yield the rows of each of the numbers that ``column`` names and the table has."""
    for name, own in NUMBERS.items():
        rows = table.rows[table.rows[column] == name]
        if len(rows):
            yield own, rows


def by_numbers(
    table: Table, column: str, fit: "Callable[[DataFrame, Numbers], tuple[Surface, HeldOut]]"
) -> Found:
    """Fit each of the numbers that ``column`` names."""
    return {numbers: fit(rows, numbers) for numbers, rows in parts(table, column)}


def surfaces(found: Found) -> dict[Numbers, Surface]:
    """Return the surfaces alone."""
    return {numbers: surface for numbers, (surface, _) in found.items()}
