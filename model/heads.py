"""Files that are no models which generate: heads that draft tokens, and heads of other tasks.

The files of EAGLE's heads say ``LlamaForCausalLMEagle3``, or the plain class of the layer that they
have and ``draft_vocab_size``; those of the first EAGLE say nothing, and are known by their one
layer, as wide as a large model's (yuhuili/EAGLE-LLaMA3-Instruct-8B). Those of others (DFlash,
Medusa, ...) name a class of theirs.
"""

import re
from collections.abc import Mapping

from model.errors import UnknownArchitectureError

_EAGLE = re.compile("eagle", re.IGNORECASE)
_OTHERS = re.compile("draft|medusa|speculator|mtp|nextn", re.IGNORECASE)
VOCABULARY = "draft_vocab_size"
_ONE_LAYER = 1024
"""Hidden size from which on no published model has but one layer: TinyStories-1Layer-21M is as
wide."""
_OTHER_TASKS = re.compile(
    "For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|MaskedLM"
    "|RewardModel|ProcessRewardModel|Embedding|Retrieval|Score)|RewardModel|SentenceEmbedding"
    "|EmbeddingModel|TextModel$|BiModel|Bidirectional"
)
"""Classes of models that classify, score or embed."""
_KEYS = (VOCABULARY, "eagle_config", "speculators_model_type", "dflash_config", "medusa_num_heads")


def check_no_head(config: Mapping[str, object], source: str) -> None:
    """Raise UnknownArchitectureError for a head's file: a model was expected."""
    for name in _names(config):
        if _EAGLE.search(name) or _OTHERS.search(name):
            raise _not_a_model(f"{source}: {name!r}")
    for key in _KEYS:
        if config.get(key) is not None:
            raise _not_a_model(f"{source}: {key} = {str(config[key])[:80]}")
    layers, hidden = config.get("num_hidden_layers"), config.get("hidden_size")
    if layers == 1 and isinstance(hidden, int) and hidden > _ONE_LAYER:
        raise _not_a_model(f"{source}: num_hidden_layers = 1 with hidden_size = {hidden}")


def check_generates(config: Mapping[str, object], source: str) -> None:
    """Raise UnknownArchitectureError for the file of a model that classifies, scores or embeds."""
    for name in _names(config):
        if _OTHER_TASKS.search(name):
            raise UnknownArchitectureError(
                f"{source}: architectures = [{name[:80]!r}]: it classifies, scores or embeds and "
                "generates nothing, which is not modelled; expected a model that generates, such "
                "as a class that ends in ForCausalLM"
            )
    if config.get("use_bidirectional_attention") in (True, "all"):
        raise UnknownArchitectureError(
            f"{source}: use_bidirectional_attention: every token attends those behind it, as of "
            "models that embed; expected a model that generates"
        )


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
