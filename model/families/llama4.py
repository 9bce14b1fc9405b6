"""``model_type: llama4_text``: routed experts beside one shared expert without a gate."""

from typing import ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from model.families.keys import ExpertCount, Family, PositiveInt, check_experts
from model.families.llama import ATTENTION, LAYER, LlamaKeys
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

_SHARED, _EXPERT = "feed_forward.shared_expert", "feed_forward.experts.{j}"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    mlp_up=f"{_SHARED}.gate_proj {_SHARED}.up_proj",
    mlp_down=f"{_SHARED}.down_proj",
    experts=f"{_EXPERT}.gate_proj {_EXPERT}.up_proj {_EXPERT}.down_proj",
)


class Llama4Keys(LlamaKeys):
    """Three layers of four attend within chunks of ``attention_chunk_size`` positions only.

    Up to that length they attend everything, as the fourth does.
    """

    default_theta: ClassVar[float] = 500_000.0

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    head_dim: PositiveInt | None = 128
    num_experts_per_tok: PositiveInt = 1
    num_experts: ExpertCount = Field(
        default=16, validation_alias=AliasChoices("num_local_experts", "num_experts")
    )
    interleave_moe_layer_step: int = 1
    attention_chunk_size: PositiveInt | None = 8192

    @model_validator(mode="after")
    def _every_layer_is_sparse(self) -> "Llama4Keys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        if self.interleave_moe_layer_step != 1:
            raise ValueError(
                f"interleave_moe_layer_step = {self.interleave_moe_layer_step}: expected 1, "
                "experts in every layer"
            )
        return self

    @property
    def chunk_tokens(self) -> int | None:
        return self.attention_chunk_size

    def mlp(self) -> Mlp:
        hidden, width, activation = self.hidden_size, self.intermediate_size, self.hidden_act
        return Experts(
            hidden_size=hidden,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=width,
            activation=activation,
            shared=Dense(hidden_size=hidden, width=width, activation=activation),
        )


FAMILY = Family("Llama4ForCausalLM", Llama4Keys, NAMES)
