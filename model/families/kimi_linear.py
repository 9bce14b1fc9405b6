"""``model_type: kimi_linear`` and ``bailing_hybrid``: Kimi Delta Attention, latent in some layers.

Kimi K3 is a ``kimi_linear`` with gated outputs and experts on a narrower width; its residuals
across blocks of layers (``attn_res_block_size``) have no price.
"""

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from model.families.deepseek import MLPS, LatentKeys
from model.families.keys import Config, ExpertCount, Family, PositiveInt
from model.families.layer_types import check_layer_types
from model.families.llama import LAYER
from model.families.windowed import FULL
from model.mixers.delta import DeltaRule
from model.mixers.latent import LatentAttention
from model.mixers.mixer import Mixer
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below
from model.shape import DecoderSpec

LINEAR = "linear_attention"
STATE_BYTES = 4.0
"""Of a number of the recurrent state, which vLLM keeps in float32."""
_ATTENTION = {
    "q_proj": "self_attn.q_proj",
    "kv_a_proj": "self_attn.kv_a_proj_with_mqa",
    "qkv_a_proj": "self_attn.q_a_proj self_attn.kv_a_proj_with_mqa",
    "q_b_proj": "self_attn.q_b_proj",
    "kv_b_proj": "self_attn.kv_b_proj",
    "o_proj": "self_attn.o_proj",
    "output_gate": "self_attn.g_proj",
    "delta_in": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "delta_decay": "self_attn.f_proj",
    "delta_decay_down": "self_attn.f_a_proj",
    "delta_decay_up": "self_attn.f_b_proj",
    "delta_gate_down": "self_attn.g_a_proj",
    "delta_gate_up": "self_attn.g_b_proj",
    "delta_out": "self_attn.o_proj",
}
_MOE = "block_sparse_moe"
_MLPS = {
    "shared_mlp_up": f"{_MOE}.shared_experts.gate_proj {_MOE}.shared_experts.up_proj",
    "shared_mlp_down": f"{_MOE}.shared_experts.down_proj",
    "experts": f"{_MOE}.experts.{{j}}.w1 {_MOE}.experts.{{j}}.w3 {_MOE}.experts.{{j}}.w2",
}
KIMI_NAMES = names_below(LAYER, **_ATTENTION, **{**MLPS, **_MLPS})
NAMES = names_below(LAYER, **_ATTENTION, **MLPS)


class LinearAttention(BaseModel):
    """Nested keys of the layers with a state; layers are counted from 1."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    head_dim: PositiveInt = 128
    num_heads: PositiveInt = 32
    short_conv_kernel_size: PositiveInt = 4
    full_attn_layers: list[PositiveInt] | None = None
    kda_layers: list[PositiveInt] | None = None
    use_full_rank_gate: bool = False


class KimiLinearKeys(LatentKeys):
    """Which layers attend stands in ``linear_attn_config`` or ``layer_types``."""

    positions_key: ClassVar[str] = "model_max_length"
    low_rank_decay: ClassVar[bool] = True

    max_position_embeddings: PositiveInt = Field(validation_alias="model_max_length")
    n_routed_experts: ExpertCount | None = Field(default=None, validation_alias="num_experts")
    num_experts_per_tok: PositiveInt | None = Field(
        default=None, validation_alias="num_experts_per_token"
    )
    n_shared_experts: NonNegativeInt | None = Field(
        default=None, validation_alias="num_shared_experts"
    )
    first_k_dense_replace: NonNegativeInt = 1
    linear_attn_config: LinearAttention | None = None
    layer_types: list[str] | None = None
    linear_head_dim: PositiveInt = 128
    linear_num_heads: PositiveInt | None = None
    linear_conv_kernel_dim: PositiveInt = 4
    mla_use_nope: bool = True
    mla_use_output_gate: bool = False
    routed_expert_hidden_size: PositiveInt | None = None
    latent_moe_use_norm: bool = False
    attn_res_block_size: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _nulls_say_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        told = {key: value for key, value in given.items() if value is not None}
        # Its code has a head of its own, whatever a file says.
        return {**told, "tie_word_embeddings": False}

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "KimiLinearKeys":
        layers, nested = self.num_hidden_layers, self.linear_attn_config
        check_layer_types("layer_types", self.layer_types, layers, (LINEAR, FULL))
        if nested is not None and nested.full_attn_layers is not None:
            both = sorted([*nested.full_attn_layers, *(nested.kda_layers or ())])
            if both != list(range(1, layers + 1)):
                raise ValueError(
                    "linear_attn_config: expected every layer from 1 to num_hidden_layers = "
                    f"{layers} in full_attn_layers or kda_layers, once"
                )
        return self

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        spec = super().decoder(name, architecture, config)
        unpriced = "residuals across blocks of layers" if self.attn_res_block_size else None
        return replace(spec, unpriced=unpriced)

    @property
    def kinds(self) -> list[str]:
        """Of every layer: linear_attention or full_attention."""
        nested, layers = self.linear_attn_config, range(self.num_hidden_layers)
        if nested is not None and nested.full_attn_layers is not None:
            return [FULL if i + 1 in nested.full_attn_layers else LINEAR for i in layers]
        if self.layer_types is not None:
            return self.layer_types
        return [FULL if i and i % 4 == 0 else LINEAR for i in layers]

    @property
    def latent_gate(self) -> int:
        """Numbers per head that gate the outputs of latent attention."""
        return self.v_head_dim if self.mla_use_output_gate else 0

    def latent_at(self, place: int, config: Config) -> LatentAttention:
        """Return latent attention, which does not rotate under ``mla_use_nope``."""
        mixer = super().latent_at(place, config)
        rotary = None if self.mla_use_nope else mixer.rotary
        return replace(mixer, rotary=rotary, gate=self.latent_gate)

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Latent attention, or the delta rule with a decay for every channel."""
        if self.kinds[place] == FULL:
            return self.latent_at(place, config)
        nested = self.linear_attn_config or LinearAttention(
            head_dim=self.linear_head_dim,
            num_heads=self.linear_num_heads or self.num_attention_heads,
            short_conv_kernel_size=self.linear_conv_kernel_dim,
        )
        dim, full = nested.head_dim, nested.use_full_rank_gate or not self.low_rank_decay
        return DeltaRule(
            hidden_size=self.hidden_size,
            num_key_heads=nested.num_heads,
            num_value_heads=nested.num_heads,
            key_dim=dim,
            value_dim=dim,
            conv_kernel=nested.short_conv_kernel_size,
            decay_per_channel=True,
            decay_rank=dim if self.low_rank_decay else None,
            gate_rank=None if full else dim,
            state_number_bytes=STATE_BYTES,
        )

    def mlp_at(self, place: int) -> Mlp:
        """As of ``LatentKeys``; experts may work on vectors of ``routed_expert_hidden_size``."""
        mlp = super().mlp_at(place)
        if not isinstance(mlp, Experts):
            return mlp
        latent = self.routed_expert_hidden_size
        normed = self.latent_moe_use_norm and latent is not None
        return replace(mlp, latent=latent, latent_norm=normed, latent_quantized=False)


class BailingHybridKeys(KimiLinearKeys):
    """Ling 3: gates of full rank, and rotated keys in the latent attention."""

    low_rank_decay: ClassVar[bool] = False
    default_theta: ClassVar[float] = 6_000_000.0

    first_k_dense_replace: NonNegativeInt = 2
    mla_use_nope: bool = False
    layer_group_size: PositiveInt = 6

    @model_validator(mode="before")
    @classmethod
    def _width_of_linear_heads(cls, given: Any) -> Any:
        """``head_dim`` is theirs where the file has no key for it alone."""
        if not isinstance(given, dict):
            return given
        own = {
            "linear_conv_kernel_dim": given.get("short_conv_kernel_size", 4),
            "linear_head_dim": given.get("linear_head_dim") or given.get("head_dim") or 128,
        }
        return {**given, **own}

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list the last of every group attends."""
        if self.layer_types is not None:
            return self.layer_types
        every = self.layer_group_size
        return [FULL if (i + 1) % every == 0 else LINEAR for i in range(self.num_hidden_layers)]

    @property
    def latent_gate(self) -> int:
        """One gate for every head."""
        return 1


FAMILIES = {
    "kimi_linear": Family("KimiLinearForCausalLM", KimiLinearKeys, KIMI_NAMES),
    "bailing_hybrid": Family(
        "BailingHybridForCausalLM", BailingHybridKeys, NAMES, also=("BailingMoeV3ForCausalLM",)
    ),
}
