"""``model_type: jamba``: Mamba in most layers, experts in every second one."""

from math import ceil
from typing import ClassVar

from pydantic import NonNegativeInt, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import WindowedKeys
from model.mixers.mamba import Mamba
from model.mixers.mixer import Mixer
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

_EXPERT = "feed_forward.experts.{j}"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    ssm_in="mamba.in_proj",
    ssm_x="mamba.x_proj",
    ssm_dt="mamba.dt_proj",
    ssm_out="mamba.out_proj",
    mlp_up="feed_forward.gate_proj feed_forward.up_proj",
    mlp_down="feed_forward.down_proj",
    experts=f"{_EXPERT}.gate_proj {_EXPERT}.up_proj {_EXPERT}.down_proj",
)


class JambaKeys(WindowedKeys):
    """Periods and offsets say which layers attend, and which have experts."""

    rotated: ClassVar[tuple[str, ...]] = ()

    sliding_window: PositiveInt | None = None
    attn_layer_period: PositiveInt = 8
    attn_layer_offset: NonNegativeInt = 4
    expert_layer_period: PositiveInt = 2
    expert_layer_offset: NonNegativeInt = 1
    num_experts: ExpertCount = 16
    num_experts_per_tok: PositiveInt = 2
    mamba_d_state: PositiveInt = 16
    mamba_d_conv: PositiveInt = 4
    mamba_expand: PositiveInt = 2
    mamba_dt_rank: PositiveInt | str = "auto"
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False

    @model_validator(mode="after")
    def _offsets_are_inside(self) -> "JambaKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        for kind in ("attn", "expert"):
            period, offset = (
                getattr(self, f"{kind}_layer_{what}") for what in ("period", "offset")
            )
            if offset >= period:
                raise ValueError(
                    f"{kind}_layer_offset = {offset}: expected below {kind}_layer_period = {period}"
                )
        return self

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention without positions once in a period, else Mamba with norms inside."""
        if place % self.attn_layer_period == self.attn_layer_offset:
            return self.attention(sliding_window=self.sliding_window)
        rank = self.mamba_dt_rank
        return Mamba(
            hidden_size=self.hidden_size,
            channels=self.mamba_expand * self.hidden_size,
            state_size=self.mamba_d_state,
            conv_kernel=self.mamba_d_conv,
            step_rank=rank if isinstance(rank, int) else ceil(self.hidden_size / 16),
            bias=self.mamba_proj_bias,
            conv_bias=self.mamba_conv_bias,
            norms=True,
        )

    def mlp_at(self, place: int) -> Mlp:
        """Experts once in a period of their own, else a dense MLP."""
        if place % self.expert_layer_period != self.expert_layer_offset or self.num_experts == 1:
            return self.mlp()
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=self.hidden_act,
        )


FAMILY = Family("JambaForCausalLM", JambaKeys, NAMES)
