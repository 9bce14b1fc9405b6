"""``model_type: qwen2_moe``: routed experts beside one shared expert with its own gate."""

from dataclasses import replace
from typing import Literal

from model.families.keys import Family, PositiveInt
from model.families.llama import ATTENTION, LAYER
from model.families.qwen_moe import DENSE, EXPERTS, QwenMoeKeys
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.quantization.modules import names_below

_SHARED = "mlp.shared_expert"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    **DENSE,
    shared_mlp_up=f"{_SHARED}.gate_proj {_SHARED}.up_proj",
    shared_mlp_down=f"{_SHARED}.down_proj",
    experts=EXPERTS,
)


class Qwen2MoeKeys(QwenMoeKeys):
    """Qwen's experts and a shared one; windows, of which two codes disagree, are not modelled."""

    use_sliding_window: Literal[False] = False
    qkv_bias: bool = True
    shared_expert_intermediate_size: PositiveInt = 5632

    @property
    def has_qkv_bias(self) -> bool:
        """As ``qkv_bias`` says."""
        return self.qkv_bias

    def mlp(self) -> Experts:
        """Qwen's experts, beside one that every token takes through a gate."""
        shared = Dense(
            hidden_size=self.hidden_size,
            width=self.shared_expert_intermediate_size,
            activation=self.hidden_act,
        )
        return replace(super().mlp(), shared=shared, shared_gate=True)


FAMILY = Family("Qwen2MoeForCausalLM", Qwen2MoeKeys, NAMES)
