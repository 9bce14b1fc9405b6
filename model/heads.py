"""Heads that draft tokens for a model, by their files: they are no models of their own.

The files of EAGLE's heads say ``LlamaForCausalLMEagle3``, or the plain class of the layer that they
have and ``draft_vocab_size``; those of others (DFlash, Medusa, ...) name a class of theirs.
"""

import re
from collections.abc import Mapping

from model.errors import UnknownArchitectureError

_EAGLE = re.compile("eagle", re.IGNORECASE)
_OTHERS = re.compile("draft|medusa|speculator|mtp|nextn", re.IGNORECASE)
VOCABULARY = "draft_vocab_size"
_KEYS = (VOCABULARY, "eagle_config", "speculators_model_type", "dflash_config", "medusa_num_heads")


def check_no_head(config: Mapping[str, object], source: str) -> None:
    """Raise UnknownArchitectureError for a head's file: a model was expected."""
    for name in _names(config):
        if _EAGLE.search(name) or _OTHERS.search(name):
            raise _not_a_model(f"{source}: {name!r}")
    for key in _KEYS:
        if config.get(key) is not None:
            raise _not_a_model(f"{source}: {key} = {str(config[key])[:80]}")


def layers_of_head(config: Mapping[str, object], source: str) -> dict[str, object]:
    """Return the layers of an EAGLE head's file as those of a model, by its ``model_type``.

    Raises:
        UnknownArchitectureError: a head of another kind.
    """
    named = _names(config)
    other = next((name for name in named if _OTHERS.search(name) and not _EAGLE.search(name)), None)
    if other is not None:
        raise UnknownArchitectureError(
            f"{source}: {other!r} is not modelled, expected a head of EAGLE or EAGLE-3"
        )
    eagle = any(_EAGLE.search(name) for name in named)
    return {key: value for key, value in config.items() if not (eagle and key == "architectures")}


def draft_vocabulary(config: Mapping[str, object]) -> int | None:
    """Return how many tokens a head can propose; None: its file does not say."""
    told = config.get(VOCABULARY)
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None


def _names(config: Mapping[str, object]) -> list[str]:
    classes = config.get("architectures")
    named = classes if isinstance(classes, list) else []
    return [str(name) for name in (*named, config.get("model_type")) if name is not None]


def _not_a_model(what: str) -> UnknownArchitectureError:
    return UnknownArchitectureError(
        f"{what}: a head that drafts tokens, expected the config of the model that it drafts for; "
        "the head itself belongs to engine.speculative.model"
    )
