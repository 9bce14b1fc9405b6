"""What can be wrong with the description of a model, and how messages suggest a name."""

import difflib
from collections.abc import Sequence

from model.nearest import closest


class ConfigError(ValueError):
    """A config file that is unreadable, incomplete, ill-typed or inconsistent."""


class UnknownArchitectureError(ValueError):
    """A config file of an architecture that is not modelled."""


class UnknownModelError(ValueError):
    """A name that is neither in the catalogue nor a path to a config file."""


class UnsupportedLayersError(ValueError):
    """Layers that are counted (parameters, KV bytes), and have no price yet."""


def one_of(word: object, choices: Sequence[str]) -> str:
    """Say which word was expected: the nearest first, then all of them."""
    found = closest(word, choices)
    expected = f"xpected one of {', '.join(choices)}"
    return f"did you mean {found}? E{expected}" if found else f"e{expected}"


def nearest(name: str, known: Sequence[str], cutoff: float = 0.4) -> str:
    """Return ``"; nearest: X"`` for the closest of ``known``, or an empty string."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; nearest: {match[0]}" if match else ""
