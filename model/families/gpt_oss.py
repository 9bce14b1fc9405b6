"""``model_type: gpt_oss``: windows with sinks, and experts with biases in every layer."""

from typing import ClassVar

from pydantic import AliasChoices, Field, PositiveFloat, model_validator

from model.families.keys import ExpertCount, Family, PositiveInt, check_experts
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import WindowedKeys
from model.mixers.attention import Attention
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

NAMES = names_below(LAYER, **ATTENTION, experts="mlp.experts.gate_up_proj mlp.experts.down_proj")


class GptOssKeys(WindowedKeys):
    """Windows in every second layer."""

    usual_pattern: ClassVar[int] = 2
    default_theta: ClassVar[float] = 150_000.0

    attention_bias: bool = True
    head_dim: PositiveInt | None = 64
    sliding_window: PositiveInt | None = 128
    rms_norm_eps: PositiveFloat = 1e-5
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_local_experts", "num_experts")
    )
    num_experts_per_tok: PositiveInt = Field(
        validation_alias=AliasChoices("num_experts_per_tok", "experts_per_token")
    )

    @model_validator(mode="after")
    def _enough_experts(self) -> "GptOssKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    def attention(self, **changes: object) -> Attention:
        """Return the attention of a layer: every head has a sink."""
        return super().attention(**{"sinks": True, **changes})

    def mlp(self) -> Mlp:
        """Experts, which have biases as their router has."""
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=self.hidden_act,
            bias=True,
            router_bias=True,
        )


FAMILY = Family("GptOssForCausalLM", GptOssKeys, NAMES)
