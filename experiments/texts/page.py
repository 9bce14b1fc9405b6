"""What a table is: its keys, its rows, its curves and its pictures."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from experiments.reporting.page.figures import Figure as Chart
from model.dataclass import dataclass

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

GIB = 2.0**30
TIB = 2.0**40

SOLUTION_A = "systems-for-ML assignment, solution A"
SOLUTION_B = "systems-for-ML assignment, solution B"
GPT2_ASSIGNMENT = "solved assignment on GPT-2 XL inference on a T4"
LECTURE = "lecture notes on rooflines, tiling, fusion and KV caching"
BLOG = "blog on weights, FLOPs and KV cache of large models"
LEVIATHAN = "Leviathan et al. 2023, Fast inference from transformers via speculative decoding"
IVANOV = "Ivanov et al. 2021, Data movement is all you need, table 1"
PROJECT = "this project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity as a text has it, and as it is."""

    quantity: str
    unit: str
    source: str
    """The text, or `PROJECT` where no text has the quantity."""
    formula: str = ""
    """The text's."""
    printed: float | None = None
    """What the text prints, for the inputs that it takes."""
    text: float | None = None
    """What its formula gives for the study's inputs."""
    exact: float | None = None
    """The project's own count."""
    note: str = ""
    """Why text and count differ."""


COLUMNS = {
    "quantity": "what is counted",
    "unit": "of the three figures",
    "source": "the text",
    "formula": "the text's formula",
    "printed": "what the text prints; empty when it prints nothing, or the inputs are not its own",
    "text": "its formula at the study's inputs",
    "exact": "the project's own count",
    "note": "why they differ",
}
"""Columns of the CSV, and what they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing, and what it shows."""

    caption: str
    draw: "Callable[[Figure], None]"
    """Into a file, for a paper."""
    charts: Sequence[Chart]
    """The same on the page."""
    width_in: float = 8.8
    height_in: float = 4.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a study of this kind leaves behind."""

    title: str
    answer: str
    """What was found, in a sentence."""
    intro: str
    """What to look at, in a few sentences."""
    rows: list[Row]
    curves: "dict[str, DataFrame]" = field(default_factory=dict)
    """By name of the CSV file, without its ending: the figures behind the pictures."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """By name of the PNG file, without its ending."""


class TableStudy(BaseModel):
    """The keys that every table has. Defaults of a table's own keys are the inputs of the texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    kind: Literal["roofline"] = "roofline"
    """What a run is: tables and pictures, nothing is simulated."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the results folder."""
    description: str = ""
    """What the study asks, in a line."""
    table: str
    """Which table."""
    timed: ClassVar[bool] = False
    """Whether it has times of this machine in it, which are never the same again."""

    @abstractmethod
    def page(self) -> Page:
        """Compute the table.

        Raises:
            ValueError: an unknown model or GPU, or inputs that they cannot take.
        """

    def has_inputs_of_the_texts(self) -> bool:
        """Tell whether every key is as in the texts, so that their printed figures apply."""
        own = set(type(self).model_fields) - {"name", "description"}
        return all(getattr(self, key) == type(self).model_fields[key].default for key in own)


def ratio(exact: float, text: float) -> str:
    """Say how far apart two figures are, for a note."""
    change = exact / text - 1
    return "the same" if abs(change) < 5e-4 else f"exact is {change:+.1%}"
