"""``model_type: qwen3_next``, ``qwen3_5_text``, ``qwen3_5_moe_text``: three layers of four are
linear attention by the gated delta rule."""

from typing import ClassVar

from pydantic import model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_layer_types
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import FULL, WindowedKeys
from model.mixers.delta import DeltaRule
from model.mixers.mixer import Mixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

LINEAR = "linear_attention"
STATE_DTYPES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_EXPERT, _SHARED = "mlp.experts.{j}", "mlp.shared_expert"
_MLPS = {
    "mlp_up": "mlp.gate_proj mlp.up_proj",
    "mlp_down": "mlp.down_proj",
    "shared_mlp_up": f"{_SHARED}.gate_proj {_SHARED}.up_proj",
    "shared_mlp_down": f"{_SHARED}.down_proj",
    "experts": f"{_EXPERT}.gate_proj {_EXPERT}.up_proj {_EXPERT}.down_proj",
    "delta_out": "linear_attn.out_proj",
}
NEXT_NAMES = names_below(LAYER, **ATTENTION, **_MLPS, delta_in="linear_attn.in_proj_qkvz")
NAMES = names_below(
    LAYER, **ATTENTION, **_MLPS, delta_in="linear_attn.in_proj_qkv linear_attn.in_proj_z"
)


class DeltaKeys(WindowedKeys):
    """Attention in some layers, with gated outputs; the delta rule in the others."""

    qk_norm: ClassVar[bool] = True
    usual_pattern: ClassVar[int] = 4
    default_rotary_share: ClassVar[float] = 0.25

    head_dim: PositiveInt | None = 256
    sliding_window: PositiveInt | None = None
    full_attention_interval: PositiveInt | None = None
    linear_conv_kernel_dim: PositiveInt = 4
    linear_key_head_dim: PositiveInt = 128
    linear_value_head_dim: PositiveInt = 128
    linear_num_key_heads: PositiveInt = 16
    linear_num_value_heads: PositiveInt = 32
    mamba_ssm_dtype: str | None = None

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "DeltaKeys":
        layers = self.num_hidden_layers
        check_layer_types("layer_types", self.layer_types, layers, (LINEAR, FULL))
        if self.linear_num_value_heads % self.linear_num_key_heads:
            raise ValueError(
                f"linear_num_value_heads = {self.linear_num_value_heads}: expected a multiple of "
                f"linear_num_key_heads = {self.linear_num_key_heads}"
            )
        if self.mamba_ssm_dtype is not None and self.mamba_ssm_dtype not in STATE_DTYPES:
            raise ValueError(
                f"mamba_ssm_dtype = {self.mamba_ssm_dtype!r}: expected {', '.join(STATE_DTYPES)}"
            )
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list the last of every few attends."""
        if self.layer_types is not None:
            return self.layer_types
        every = self.full_attention_interval or self.usual_pattern
        return [FULL if (i + 1) % every == 0 else LINEAR for i in range(self.num_hidden_layers)]

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention whose outputs have a gate each, or the delta rule."""
        if self.kinds[place] == FULL:
            return self.attention(rotary=self.rotary_at(FULL, config), gate=self.width_of_head)
        return DeltaRule(
            hidden_size=self.hidden_size,
            num_key_heads=self.linear_num_key_heads,
            num_value_heads=self.linear_num_value_heads,
            key_dim=self.linear_key_head_dim,
            value_dim=self.linear_value_head_dim,
            conv_kernel=self.linear_conv_kernel_dim,
            state_number_bytes=STATE_DTYPES.get(self.mamba_ssm_dtype or ""),
        )


class DeltaMoeKeys(DeltaKeys):
    """Experts in every layer, with a shared one behind a gate."""

    intermediate_size: PositiveInt = 5120
    moe_intermediate_size: PositiveInt
    shared_expert_intermediate_size: PositiveInt
    num_experts: ExpertCount
    num_experts_per_tok: PositiveInt
    decoder_sparse_step: PositiveInt = 1
    mlp_only_layers: list[int] | None = None

    @model_validator(mode="after")
    def _enough_experts(self) -> "DeltaMoeKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    def mlp_at(self, place: int) -> Mlp:
        """Experts beside a shared one, or where the file says so a dense MLP."""
        if place in (self.mlp_only_layers or ()) or (place + 1) % self.decoder_sparse_step:
            return self.mlp()
        shared = Dense(
            hidden_size=self.hidden_size,
            width=self.shared_expert_intermediate_size,
            activation=self.hidden_act,
        )
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size,
            activation=self.hidden_act,
            shared=shared,
            shared_gate=True,
        )


FAMILIES = {
    "qwen3_next": Family("Qwen3NextForCausalLM", DeltaMoeKeys, NEXT_NAMES),
    "qwen3_5_text": Family("Qwen3_5ForCausalLM", DeltaKeys, NAMES),
    "qwen3_5_moe_text": Family("Qwen3_5MoeForCausalLM", DeltaMoeKeys, NAMES),
}
