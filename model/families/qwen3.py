"""``model_type: qwen3``: query and key are normalised per head; biases are optional."""

from typing import ClassVar

from model.families.keys import Family, PositiveInt
from model.families.llama import NAMES
from model.families.qwen2 import Qwen2Keys


class Qwen3Keys(Qwen2Keys):
    """Qwen2 with norms over heads."""

    qk_norm: ClassVar[bool] = True

    head_dim: PositiveInt | None = 128

    @property
    def has_qkv_bias(self) -> bool:
        """As ``attention_bias`` says."""
        return self.attention_bias

    @property
    def has_output_bias(self) -> bool:
        """As ``attention_bias`` says."""
        return self.attention_bias


FAMILY = Family("Qwen3ForCausalLM", Qwen3Keys, NAMES)
