"""Fields of a study that name a class: of a table, or one's own."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from sim.plugins import DOTTED

OwnSettings = Annotated[
    dict[str, bool | int | float | str], Field(validate_default=True, max_length=100)
]
"""Settings of a class of one's own: by name, as its constructor takes them."""


def named(look_up: Callable[[str], object], names: Iterable[str]) -> tuple[Any, Any]:
    """Return what makes a text such a field: the check, and what the schema says of it."""

    def check(name: str) -> str:
        """Look a name up. Raises ValueError."""
        look_up(name)
        return name

    own = {"type": "string", "pattern": DOTTED, "examples": ["my_module:MyClass"]}
    choices = [{"type": "string", "enum": list(names)}, own]
    return AfterValidator(check), WithJsonSchema({"anyOf": choices})
