"""``model_type: mistral``: every layer attends a sliding window, unless it is null."""

from typing import Literal

from pydantic import Field

from model.families.keys import Family, PositiveInt
from model.families.llama import NAMES, LlamaKeys


class MistralKeys(LlamaKeys):
    """Llama with a window."""

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    sliding_window: PositiveInt | None = 4096

    @property
    def window(self) -> int | None:
        return self.sliding_window


FAMILY = Family("MistralForCausalLM", MistralKeys, NAMES)
