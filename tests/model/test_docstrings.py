from pydantic import BaseModel

from model.docstrings import attribute_docstrings


class Base(BaseModel):
    kept: int = 0
    """From the base."""
    told: int = 0
    """Replaced."""


class Below(Base):
    told: int = 0
    """Of two lines, the second
    of which is indented."""
    silent: int = 0


def test_the_docstring_of_each_field_is_found_as_pydantic_finds_it() -> None:
    class Same(Below, use_attribute_docstrings=True):
        told: int = 0
        """Of two lines, the second
        of which is indented."""

    assert attribute_docstrings(Below) == {
        "kept": "From the base.",
        "told": "Of two lines, the second\nof which is indented.",
    }
    assert Same.model_fields["told"].description == attribute_docstrings(Below)["told"]


def test_a_class_without_source_has_none() -> None:
    assert attribute_docstrings(type("Made", (), {"__annotations__": {"a": int}})) == {}
