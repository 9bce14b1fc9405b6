"""``model_type: mixtral``: ``intermediate_size`` is the width of one expert."""

from typing import ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from model.families.keys import ExpertCount, Family, PositiveInt, check_experts
from model.families.llama import ATTENTION, LAYER, LlamaKeys
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

_EXPERT = "block_sparse_moe.experts.{j}"
NAMES = names_below(LAYER, **ATTENTION, experts=f"{_EXPERT}.w1 {_EXPERT}.w3 {_EXPERT}.w2")


class MixtralKeys(LlamaKeys):
    """Llama with experts, and maybe a window."""

    default_theta: ClassVar[float] = 1_000_000.0

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    sliding_window: PositiveInt | None = None
    num_experts_per_tok: PositiveInt = 2
    num_experts: ExpertCount = Field(
        default=8, validation_alias=AliasChoices("num_local_experts", "num_experts")
    )

    @model_validator(mode="after")
    def _enough_experts(self) -> "MixtralKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    @property
    def window(self) -> int | None:
        """Of every layer, if the file has one."""
        return self.sliding_window

    def mlp(self) -> Mlp:
        """Experts, as wide as ``intermediate_size``."""
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=self.hidden_act,
        )


FAMILY = Family("MixtralForCausalLM", MixtralKeys, NAMES)
