"""Families with windows in most layers and experts in most: Laguna, Mellum, AFMoE, EXAONE MoE."""

from typing import ClassVar

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveFloat, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import MLP_TYPES, check_every_layer, check_layer_types
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import SLIDING, WindowedKeys
from model.mixers.attention import Attention
from model.mixers.mixer import Mixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import Names, names_below

GATED = {"qkv_proj": f"{ATTENTION['qkv_proj']} self_attn.g_proj"}
"""Names of queries, keys, values and what gates the outputs."""


def names_of(shared: str, **attention: str) -> Names:
    """Return the usual names of a layer with experts, and of its shared expert."""
    expert = "mlp.experts.{j}"
    return names_below(
        LAYER,
        **{**ATTENTION, **attention},
        mlp_up="mlp.gate_proj mlp.up_proj",
        mlp_down="mlp.down_proj",
        shared_mlp_up=f"{shared}.gate_proj {shared}.up_proj",
        shared_mlp_down=f"{shared}.down_proj",
        experts=f"{expert}.gate_proj {expert}.up_proj {expert}.down_proj",
    )


class WindowedMoeKeys(WindowedKeys):
    """Experts behind some dense layers, or where ``mlp_layer_types`` has them."""

    dense_layers: ClassVar[int] = 1
    """First layers without experts, of a file that does not say."""
    score_bias: ClassVar[bool] = False
    """What is added to an expert's score is a parameter, not a buffer beside them."""

    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts", "num_local_experts")
    )
    num_experts_per_tok: PositiveInt
    moe_intermediate_size: PositiveInt
    n_shared_experts: NonNegativeInt = Field(
        default=0, validation_alias=AliasChoices("num_shared_experts", "n_shared_experts")
    )
    first_k_dense_replace: NonNegativeInt | None = Field(
        default=None, validation_alias=AliasChoices("first_k_dense_replace", "num_dense_layers")
    )
    mlp_layer_types: list[str] | None = None

    @model_validator(mode="after")
    def _experts_are_possible(self) -> "WindowedMoeKeys":
        types, layers = self.mlp_layer_types, self.num_hidden_layers
        check_layer_types("mlp_layer_types", types, layers, MLP_TYPES)
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    def is_sparse(self, place: int) -> bool:
        """Whether a layer has experts."""
        if self.mlp_layer_types is not None:
            return self.mlp_layer_types[place] == "sparse"
        first = self.first_k_dense_replace
        return place >= (self.dense_layers if first is None else first)

    @property
    def shared_width(self) -> int:
        """Of the shared expert; 0 without."""
        return self.n_shared_experts * self.moe_intermediate_size

    def mlp_at(self, place: int) -> Mlp:
        """Experts, beside a shared one if it has a width, or in dense layers one MLP."""
        if not self.is_sparse(place):
            return self.mlp()
        hidden, activation, width = self.hidden_size, self.hidden_act, self.shared_width
        shared = Dense(hidden_size=hidden, width=width, activation=activation) if width else None
        return Experts(
            hidden_size=hidden,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size,
            activation=activation,
            shared=shared,
            router_bias=self.score_bias,
        )


class LagunaKeys(WindowedMoeKeys):
    """Query heads differ between layers, and a gate weighs what they put out."""

    qk_norm: ClassVar[bool] = True
    score_bias: ClassVar[bool] = True
    default_theta: ClassVar[float] = 500_000.0
    local_theta: ClassVar[float | None] = 10_000.0

    head_dim: PositiveInt | None = 128
    sliding_window: PositiveInt | None = 512
    shared_expert_intermediate_size: NonNegativeInt = 0
    num_attention_heads_per_layer: list[PositiveInt] | None = None
    gating: bool | str = True

    @model_validator(mode="after")
    def _heads_of_every_layer(self) -> "LagunaKeys":
        heads = self.num_attention_heads_per_layer
        check_every_layer("num_attention_heads_per_layer", heads, self.num_hidden_layers)
        if self.gating not in (True, False, "per-head", "per-element"):
            raise ValueError(f"gating = {self.gating!r}: expected per-head, per-element or false")
        return self

    @property
    def shared_width(self) -> int:
        """Of the shared expert, as the file gives it; 0 without."""
        return self.shared_expert_intermediate_size

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention of as many heads as the layer is told to have, with gates."""
        heads, kind = self.num_attention_heads_per_layer, self.kinds[place]
        gates = {True: 1, "per-head": 1, False: 0}
        return self.attention(
            num_heads=heads[place] if heads else self.num_attention_heads,
            gate=gates.get(self.gating, self.width_of_head),
            gate_bias=False,
            rotary=self.rotary_at(kind, config),
            sliding_window=self.sliding_window if kind == SLIDING else None,
        )


class MellumKeys(WindowedMoeKeys):
    """Experts in every layer, unless a list says otherwise."""

    qk_norm: ClassVar[bool] = True
    dense_layers: ClassVar[int] = 0
    default_theta: ClassVar[float] = 500_000.0

    head_dim: PositiveInt | None = 128
    sliding_window: PositiveInt | None = 1024


class AfmoeKeys(WindowedMoeKeys):
    """Gates of every number of the outputs, norms on both sides; no positions in full layers."""

    qk_norm: ClassVar[bool] = True
    norms: ClassVar[int] = 4
    score_bias: ClassVar[bool] = True
    usual_pattern: ClassVar[int] = 4
    rotated: ClassVar[tuple[str, ...]] = (SLIDING,)

    head_dim: PositiveInt | None = 128
    rms_norm_eps: PositiveFloat = 1e-5
    sliding_window: PositiveInt | None = 1024
    sliding_window_pattern: NonNegativeInt | None = Field(
        default=None, validation_alias="global_attn_every_n_layers"
    )

    def attention(self, **changes: object) -> Attention:
        """Return the attention of a layer: every number put out has a gate."""
        return super().attention(**{"gate": self.width_of_head, "gate_bias": False, **changes})


class ExaoneMoeKeys(WindowedMoeKeys):
    """Layers that attend everything have no positions."""

    qk_norm: ClassVar[bool] = True
    usual_pattern: ClassVar[int] = 4
    rotated: ClassVar[tuple[str, ...]] = (SLIDING,)

    rms_norm_eps: PositiveFloat = 1e-5


_SHARED = "mlp.shared_experts"
FAMILIES = {
    "laguna": Family("LagunaForCausalLM", LagunaKeys, names_of(_SHARED, **GATED)),
    "mellum": Family("MellumForCausalLM", MellumKeys, names_of(_SHARED)),
    "afmoe": Family(
        "AfmoeForCausalLM",
        AfmoeKeys,
        names_of(_SHARED, qkv_proj=f"{ATTENTION['qkv_proj']} self_attn.gate_proj"),
    ),
    "exaone_moe": Family(
        "ExaoneMoeForCausalLM", ExaoneMoeKeys, names_of(_SHARED), also=("ExaoneMoEForCausalLM",)
    ),
}
