"""How tokens are drawn where a request does not say: what publishers put beside their models."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from model.kept import kept

GENERATION_CONFIG = "generation_config.json"
"""File beside config.json."""

Drawing = Literal["greedy", "temperature", "top_p", "penalties"]
"""The likeliest token; one of all; one of the likeliest, by top-p, top-k or both; that, and what
was said before is less likely."""
DRAWINGS: tuple[Drawing, ...] = get_args(Drawing)


def drawing_of(generation_config: Mapping[str, object]) -> Drawing:
    """Return how tokens are drawn by a generation_config.json of transformers, as vLLM takes it.

    A key that is missing cuts and penalises nothing.
    """
    get = generation_config.get
    if get("repetition_penalty", 1.0) not in (None, 1, 1.0):
        return "penalties"
    if get("temperature") == 0 or get("top_k") == 1:
        return "greedy"
    top_p, top_k = get("top_p"), get("top_k")
    below = isinstance(top_p, int | float) and 0 < top_p < 1
    return "top_p" if below or (isinstance(top_k, int) and top_k > 0) else "temperature"


def drawing_by_name(name: str) -> Drawing:
    """Return it for a published model, by the beginning of its name; temperature if unknown."""
    plain = name.lower().rsplit("/", 1)[-1]
    found = [(len(begin), kind) for begin, kind in _beginnings().items() if plain.startswith(begin)]
    return max(found)[1] if found else "temperature"


@lru_cache(maxsize=1)
def _beginnings() -> dict[str, Drawing]:
    return kept("sampling", _read)


def _read() -> dict[str, Drawing]:
    from ruamel.yaml import YAML

    table = YAML(typ="safe").load(Path(__file__).with_name("sampling.yaml"))
    return {begin: kind for kind in DRAWINGS for begin in table.get(kind, ())}
