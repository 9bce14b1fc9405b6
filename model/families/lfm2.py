"""``model_type: lfm2`` and ``lfm2_moe``: short convolutions in most layers, attention in some."""

from typing import Any, ClassVar

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveFloat, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_layer_types
from model.families.llama import LAYER
from model.families.windowed import FULL, WindowedKeys
from model.mixers.mixer import Mixer
from model.mixers.short_conv import ShortConv
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

CONV = "conv"
_EXPERT = "feed_forward.experts.{j}"
NAMES = names_below(
    LAYER,
    qkv_proj="self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    o_proj="self_attn.out_proj",
    conv_in="conv.in_proj",
    conv_out="conv.out_proj",
    mlp_up="feed_forward.w1 feed_forward.w3",
    mlp_down="feed_forward.w2",
    experts=f"{_EXPERT}.w1 {_EXPERT}.w3 {_EXPERT}.w2",
)


class Lfm2Keys(WindowedKeys):
    """Attention where ``layer_types`` or ``full_attn_idxs`` says so."""

    qk_norm: ClassVar[bool] = True
    default_theta: ClassVar[float] = 1_000_000.0

    rms_norm_eps: PositiveFloat = Field(default=1e-5, validation_alias="norm_eps")
    intermediate_size: PositiveInt = Field(
        validation_alias=AliasChoices("block_ff_dim", "intermediate_size")
    )
    tie_word_embeddings: bool = Field(
        default=True, validation_alias=AliasChoices("tie_embedding", "tie_word_embeddings")
    )
    sliding_window: PositiveInt | None = None
    conv_L_cache: PositiveInt = 3
    conv_bias: bool = False
    full_attn_idxs: list[int] | None = None
    block_auto_adjust_ff_dim: bool = True
    block_ffn_dim_multiplier: float | None = 1.0
    block_multiple_of: PositiveInt = 256

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "Lfm2Keys":
        check_layer_types("layer_types", self.layer_types, self.num_hidden_layers, (CONV, FULL))
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer; all attend where the file names none."""
        if self.layer_types is not None:
            return self.layer_types
        layers = range(self.num_hidden_layers)
        attending = layers if self.full_attn_idxs is None else self.full_attn_idxs
        return [FULL if place in attending else CONV for place in layers]

    @property
    def dense_width(self) -> int:
        """Two thirds of the file's width, up to a multiple, where the file lets it be adjusted."""
        width: int = self.intermediate_size
        if not self.block_auto_adjust_ff_dim:
            return width
        width = int(2 * width / 3)
        if self.block_ffn_dim_multiplier is not None:
            width = int(self.block_ffn_dim_multiplier * width)
        return self.block_multiple_of * -(-width // self.block_multiple_of)

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention, or a short convolution."""
        if self.kinds[place] == FULL:
            return self.attention(rotary=self.rotary_at(FULL, config))
        return ShortConv(
            hidden_size=self.hidden_size, conv_kernel=self.conv_L_cache, bias=self.conv_bias
        )

    def mlp(self) -> Mlp:
        """A dense MLP of the width that ``dense_width`` works out."""
        return Dense(
            hidden_size=self.hidden_size, width=self.dense_width, activation=self.hidden_act
        )


class Lfm2MoeKeys(Lfm2Keys):
    """Experts behind some dense layers."""

    block_auto_adjust_ff_dim: bool = False
    num_dense_layers: NonNegativeInt = 2
    moe_intermediate_size: PositiveInt
    num_experts: ExpertCount
    num_experts_per_tok: PositiveInt

    @model_validator(mode="before")
    @classmethod
    def _width_as_it_is(cls, given: Any) -> Any:
        """The width of the dense layers is not adjusted, whatever a file says."""
        return {**given, "block_auto_adjust_ff_dim": False} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _enough_experts(self) -> "Lfm2MoeKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    def mlp_at(self, place: int) -> Mlp:
        """Experts, but a dense MLP in the first ``num_dense_layers``."""
        if place < self.num_dense_layers:
            return self.mlp()
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size,
            activation=self.hidden_act,
        )


FAMILIES = {
    "lfm2": Family("Lfm2ForCausalLM", Lfm2Keys, NAMES),
    "lfm2_moe": Family("Lfm2MoeForCausalLM", Lfm2MoeKeys, NAMES),
}
