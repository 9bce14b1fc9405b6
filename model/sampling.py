"""How tokens are drawn where a request does not say: what publishers put beside their models."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML

GENERATION_CONFIG = "generation_config.json"
"""File beside config.json."""


def is_cut(generation_config: Mapping[str, object]) -> bool:
    """Tell whether the likeliest tokens alone are drawn from: top_p below 1, or top_k.

    Args:
        generation_config: of transformers; a key that is missing cuts nothing, as in vLLM.
    """
    if generation_config.get("temperature") == 0 or generation_config.get("top_k") == 1:
        return False  # greedy
    top_p, top_k = (generation_config.get(key) for key in ("top_p", "top_k"))
    below = isinstance(top_p, int | float) and 0 < top_p < 1
    return below or (isinstance(top_k, int) and top_k > 0)


def is_cut_by_name(name: str) -> bool:
    """Tell it of a published model, by the beginning of its name; False for one that is unknown."""
    plain = name.lower().rsplit("/", 1)[-1]
    found = [(len(begin), cut) for begin, cut in _beginnings().items() if plain.startswith(begin)]
    return max(found, default=(0, False))[1]


@lru_cache(maxsize=1)
def _beginnings() -> dict[str, bool]:
    table = YAML(typ="safe").load(Path(__file__).with_name("sampling.yaml"))
    return {begin: kind == "cut" for kind, names in table.items() for begin in names}
