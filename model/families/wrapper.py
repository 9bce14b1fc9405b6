"""What is said of a model of several kinds of input."""

from collections.abc import Callable
from dataclasses import dataclass

from model.config_keys import Config

Beside = Callable[[Config, Config], int]
"""Counts the parameters beside the language model, from the whole file and the language model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """One ``model_type`` of several kinds of input."""

    class_names: tuple[str, ...]
    beside: Beside
    text_type: str
    """Of the language model, where the file does not say; also where its keys stand at the top."""
