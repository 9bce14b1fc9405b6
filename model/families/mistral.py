"""``model_type: mistral``: every layer attends a sliding window, unless it is null."""

from typing import Literal

from pydantic import Field, model_validator

from model.families.keys import Family, PositiveInt
from model.families.llama import NAMES, LlamaKeys


class OneWindowKeys(LlamaKeys):
    """Llama with a window, which all layers have or none."""

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    sliding_window: PositiveInt | None = None
    layer_types: list[str] | None = None

    @model_validator(mode="after")
    def _layers_are_alike(self) -> "OneWindowKeys":
        kinds = sorted({*(self.layer_types or ())})
        if len(kinds) > 1 or {*kinds} - {"full_attention", "sliding_attention"}:
            raise ValueError(
                f"layer_types has {' and '.join(map(repr, kinds))}: expected full_attention or "
                "sliding_attention in all layers; others are not modelled here"
            )
        return self

    @property
    def window(self) -> int | None:
        """``sliding_window``, unless the layers are told to attend everything."""
        return None if "full_attention" in (self.layer_types or ()) else self.sliding_window


class MistralKeys(OneWindowKeys):
    """Which has a window unless it says otherwise."""

    num_key_value_heads: PositiveInt | None = Field()
    sliding_window: PositiveInt | None = 4096


FAMILY = Family("MistralForCausalLM", MistralKeys, NAMES)
