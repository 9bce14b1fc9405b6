"""``model_type: gemma2`` and ``gemma3_text``: windows, norms before and behind both parts."""

from typing import ClassVar

from pydantic import Field

from model.families.keys import Activation, Config, Family, PositiveInt
from model.families.llama import NAMES
from model.families.windowed import WindowedKeys


class Gemma2Keys(WindowedKeys):
    """Windows in every second layer."""

    usual_pattern: ClassVar[int] = 2
    norms: ClassVar[int] = 4

    vocab_size: PositiveInt = 256_000
    head_dim: PositiveInt | None = 256
    max_position_embeddings: PositiveInt = 8192
    hidden_act: Activation = Field(default="gelu_tanh", validation_alias="hidden_activation")
    tie_word_embeddings: bool = True


class Gemma3Keys(Gemma2Keys):
    """Windows in five layers of six, with rotary frequencies of their own."""

    usual_pattern: ClassVar[int] = 6
    default_theta: ClassVar[float] = 1_000_000.0
    local_theta: ClassVar[float | None] = 10_000.0
    qk_norm: ClassVar[bool] = True

    vocab_size: PositiveInt = 262_208
    max_position_embeddings: PositiveInt = 131_072
    num_attention_heads: PositiveInt = 8
    num_key_value_heads: PositiveInt | None = 4

    def longest(self, config: Config) -> int:
        """The file's positions are scaled already."""
        plain = {key: config[key] for key in config if not key.startswith("rope_")}
        return super().longest(plain)


FAMILIES = {
    "gemma2": Family("Gemma2ForCausalLM", Gemma2Keys, NAMES),
    "gemma3_text": Family("Gemma3ForCausalLM", Gemma3Keys, NAMES),
}
