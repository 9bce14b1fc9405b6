"""What is said of a model of several kinds of input."""

from collections.abc import Callable

from model.config_keys import Config
from model.dataclass import dataclass
from model.encoders.peak import EncoderPeak

Beside = Callable[[Config, Config], int]
"""Counts the parameters beside the language model, from the whole file and the language model's."""

Peak = Callable[[Config, Config], EncoderPeak | None]
"""What the encoder takes of its largest image, from the same."""


def not_told(config: Config, text: Config) -> None:
    """Of an encoder whose peak is not modelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """One ``model_type`` of several kinds of input."""

    class_names: tuple[str, ...]
    beside: Beside
    text_type: str
    """Of the language model, where the file does not say; also where its keys stand at the top."""
    peak: Peak = not_told
