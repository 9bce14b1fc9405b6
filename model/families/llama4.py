"""``model_type: llama4_text``: routed experts beside one shared expert without a gate."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_every_layer
from model.families.llama import ATTENTION, LAYER, LlamaKeys
from model.mixers.mixer import Mixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

FULL_EVERY = 4
_DENSE = "feed_forward"
_SHARED, _EXPERT = f"{_DENSE}.shared_expert", f"{_DENSE}.experts.{{j}}"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    mlp_up=f"{_DENSE}.gate_proj {_DENSE}.up_proj",
    mlp_down=f"{_DENSE}.down_proj",
    shared_mlp_up=f"{_SHARED}.gate_proj {_SHARED}.up_proj",
    shared_mlp_down=f"{_SHARED}.down_proj",
    experts=f"{_EXPERT}.gate_proj {_EXPERT}.up_proj {_EXPERT}.down_proj",
)


class Llama4Keys(LlamaKeys):
    """Three layers of four attend within chunks of ``attention_chunk_size`` positions only.

    The fourth attends everything, and rotates nothing. Chunks are taken as windows of their length:
    the same up to it, as many positions kept beyond, and up to twice as many attended in the mean.
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
    interleave_moe_layer_step: PositiveInt = 1
    """Experts in every so many-th layer; the others are dense."""
    intermediate_size_mlp: PositiveInt = 16384
    """Width of a dense layer."""
    no_rope_layers: list[int] | None = None
    """0 where a layer attends everything and rotates nothing; every fourth where none is told."""
    moe_layers: list[int] | None = None
    """Which layers have experts, instead."""
    attention_chunk_size: PositiveInt | None = 8192

    @model_validator(mode="after")
    def _enough_experts(self) -> "Llama4Keys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        check_every_layer("no_rope_layers", self.no_rope_layers or None, self.num_hidden_layers)
        return self

    @property
    def chunk_tokens(self) -> int | None:
        """Positions of a chunk, which is what the windows of three layers of four stand for."""
        return self.attention_chunk_size

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """Return the mixer and the MLP of every layer: chunked or not, with experts or without."""
        every, layers = self.interleave_moe_layer_step, self.num_hidden_layers
        sparse = {i for i in range(layers) if (i + 1) % every == 0}
        if self.moe_layers is not None:
            sparse = {*self.moe_layers}
        mixer, mlp = self.mixer(config), self.mlp()
        turned = self.no_rope_layers or [int((i + 1) % FULL_EVERY != 0) for i in range(layers)]
        everywhere = replace(mixer, rotary=None)
        chunked = replace(mixer, sliding_window=self.attention_chunk_size)
        dense = Dense(
            hidden_size=self.hidden_size,
            width=self.intermediate_size_mlp,
            activation=self.hidden_act,
        )
        return [
            (chunked if turned[i] else everywhere, mlp if i in sparse else dense)
            for i in range(layers)
        ]

    def mlp(self) -> Mlp:
        """Experts, beside one as wide that every token takes."""
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
