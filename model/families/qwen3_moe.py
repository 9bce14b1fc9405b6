"""``model_type: qwen3_moe``: routed experts only; query and key are normalised per head."""

from typing import ClassVar

from model.families.keys import Family
from model.families.llama import ATTENTION, LAYER
from model.families.qwen_moe import DENSE, EXPERTS, QwenMoeKeys
from model.quantization.modules import names_below


class Qwen3MoeKeys(QwenMoeKeys):
    """Qwen's experts behind norms over heads."""

    qk_norm: ClassVar[bool] = True

    @property
    def has_qkv_bias(self) -> bool:
        """As ``attention_bias`` says."""
        return self.attention_bias

    @property
    def has_output_bias(self) -> bool:
        """As ``attention_bias`` says."""
        return self.attention_bias

    def _layer_types(self) -> list[str]:
        # Unlike in the other Qwen files, the window holds in every layer or in none.
        return ["sliding_attention" if self.use_sliding_window else "full_attention"]


FAMILY = Family(
    "Qwen3MoeForCausalLM", Qwen3MoeKeys, names_below(LAYER, **ATTENTION, **DENSE, experts=EXPERTS)
)
