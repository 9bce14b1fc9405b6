"""``model_type: gemma3n_text`` and ``gemma4_text``: shared caches, and inputs of every layer.

A second embedding gives every layer inputs of its own (per-layer embeddings); the last layers
attend the caches of earlier ones.
"""

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import NonNegativeInt, model_validator

from model.families.gemma2 import Gemma3Keys
from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_every_layer
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import FULL, SLIDING
from model.matrices import Matrix, repeated
from model.mixers.mixer import Mixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.extended import Extended
from model.mlps.mlp import Mlp
from model.once import Once
from model.quantization.modules import names_below
from model.shape import DecoderSpec

_EXPERT = "experts.{j}"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    mlp_up="mlp.gate_proj mlp.up_proj",
    mlp_down="mlp.down_proj",
    experts=f"{_EXPERT}.gate_proj {_EXPERT}.up_proj {_EXPERT}.down_proj",
    layer_input_gate="per_layer_input_gate",
    layer_input_proj="per_layer_projection",
    laurel_left="laurel.linear_left",
    laurel_right="laurel.linear_right",
)
PLAIN_NORMS = 4


class SharedCacheKeys(Gemma3Keys):
    """The last ``num_kv_shared_layers`` attend the last caches of their kind before them."""

    num_kv_shared_layers: NonNegativeInt = 0
    hidden_size_per_layer_input: NonNegativeInt = 256
    vocab_size_per_layer_input: PositiveInt = 262_144

    @model_validator(mode="after")
    def _every_kind_has_a_cache(self) -> "SharedCacheKeys":
        own = self.num_hidden_layers - self.num_kv_shared_layers
        if set(self.kinds[: max(own, 0)]) != set(self.kinds):
            raise ValueError(
                f"num_kv_shared_layers = {self.num_kv_shared_layers}: expected a layer of every "
                f"kind before them, of num_hidden_layers = {self.num_hidden_layers}"
            )
        return self

    def shares(self, place: int) -> bool:
        """Whether a layer attends what an earlier one has cached."""
        return place >= self.num_hidden_layers - self.num_kv_shared_layers

    @property
    def layer_inputs(self) -> tuple[Matrix, ...]:
        """Matrices around a layer's own inputs."""
        hidden, inputs = repeated(self.hidden_size), repeated(self.hidden_size_per_layer_input)
        return (
            Matrix("layer_input_gate", (inputs,), hidden),
            Matrix("layer_input_proj", (hidden,), inputs),
        )

    @property
    def once(self) -> Once:
        """The second embedding, and the matrix that fits the first one's rows to it."""
        if not self.hidden_size_per_layer_input:
            return Once()
        all_inputs = self.num_hidden_layers * self.hidden_size_per_layer_input
        hidden = repeated(self.hidden_size)
        fitted = Matrix("layer_inputs_proj", (repeated(all_inputs),), hidden, quantized=False)
        return Once(
            table_rows=self.vocab_size_per_layer_input,
            table_numbers=all_inputs,
            matrices=(fitted,),
            vectors=self.hidden_size_per_layer_input,
        )

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        return replace(super().decoder(name, architecture, config), once=self.once)


class Gemma4Keys(SharedCacheKeys):
    """Full layers have wider heads, whose values may be their keys; experts beside the MLP."""

    norms: ClassVar[int] = PLAIN_NORMS

    sliding_window: PositiveInt | None = 512
    global_head_dim: PositiveInt = 512
    num_global_key_value_heads: PositiveInt | None = None
    attention_k_eq_v: bool = False
    use_double_wide_mlp: bool = False
    enable_moe_block: bool = False
    num_experts: ExpertCount | None = None
    top_k_experts: PositiveInt | None = None
    moe_intermediate_size: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _full_layers(cls, given: Any) -> Any:
        """What differs in full layers stands in a mapping by layer in newer files."""
        if not isinstance(given, dict):
            return given
        by_layer = given.get("per_layer_config")
        if not isinstance(by_layer, dict):
            return given
        # None differs: heads are equally wide in all layers.
        own: dict[str, Any] = next(iter(by_layer.values()), {})
        found = {
            "global_head_dim": own.get("head_dim", given.get("head_dim")),
            "num_global_key_value_heads": own.get("num_key_value_heads"),
        }
        return {**{key: value for key, value in found.items() if value is not None}, **given}

    @model_validator(mode="after")
    def _experts_are_complete(self) -> "Gemma4Keys":
        if self.enable_moe_block:
            for key in ("num_experts", "top_k_experts", "moe_intermediate_size"):
                if getattr(self, key) is None:
                    raise ValueError(f"{key} is missing beside enable_moe_block")
            check_experts(self.top_k_experts or 0, self.num_experts or 0)
        return self

    @property
    def kinds(self) -> list[str]:
        """As of ``WindowedKeys``, but the last layer always attends everything."""
        return [*super().kinds[:-1], FULL]

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention; the last layers have queries only, and full ones heads of another width."""
        shared, sliding = self.shares(place), self.kinds[place] == SLIDING
        dim = self.width_of_head if sliding else self.global_head_dim
        rotary = self.rotary_at(self.kinds[place], config)
        changes: dict[str, object] = {
            "head_dim": dim,
            "rotary": rotary,
            "qk_norm_numbers": dim if shared else 2 * dim,
            "shares_cache": shared,
            "sliding_window": self.sliding_window if sliding else None,
        }
        if not sliding and self.attention_k_eq_v:
            changes["values_are_keys"] = True
            changes["num_kv_heads"] = self.num_global_key_value_heads or self.kv_heads
        return self.attention(**changes)

    def mlp_at(self, place: int) -> Mlp:
        """A dense MLP, and experts beside it and inputs of the layer where there are any."""
        hidden, activation = self.hidden_size, self.hidden_act
        wide = 2 if self.use_double_wide_mlp and self.shares(place) else 1
        mlp: Mlp = Dense(
            hidden_size=hidden, width=wide * self.intermediate_size, activation=activation
        )
        vectors, norms = 0, 0
        if self.enable_moe_block and isinstance(mlp, Dense):
            experts = self.num_experts or 0
            mlp = Experts(
                hidden_size=hidden,
                num_experts=experts,
                per_token=self.top_k_experts or 0,
                width=self.moe_intermediate_size or 0,
                activation=activation,
                shared=mlp,
            )
            # Scales of the router's inputs and of every expert; norms around both halves.
            vectors, norms = hidden + experts, 3
        inputs = self.layer_inputs if self.hidden_size_per_layer_input else ()
        norms += 1 if inputs else 0
        if not norms:
            return mlp
        vectors += norms * hidden
        return Extended(
            mlp=mlp, more=inputs, more_vectors=vectors, moved_numbers=2 * norms * hidden
        )


class Gemma3nKeys(SharedCacheKeys):
    """Streams that are predicted and corrected (AltUp), and a narrow residual (Laurel)."""

    usual_pattern: ClassVar[int] = 5

    vocab_size: PositiveInt = 262_400
    max_position_embeddings: PositiveInt = 32_768
    num_key_value_heads: PositiveInt | None = 2
    sliding_window: PositiveInt | None = 512
    num_kv_shared_layers: NonNegativeInt = 15
    altup_num_inputs: PositiveInt = 4
    laurel_rank: PositiveInt = 64
    widths: list[PositiveInt] | None = None
    """Of the MLP, by layer."""

    @model_validator(mode="before")
    @classmethod
    def _width_of_every_layer(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("intermediate_size"), list):
            widths = given["intermediate_size"]
            return {**given, "widths": widths, "intermediate_size": widths[0] if widths else None}
        return given

    @model_validator(mode="after")
    def _as_many_widths(self) -> "Gemma3nKeys":
        check_every_layer("intermediate_size", self.widths, self.num_hidden_layers)
        return self

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention; the last layers have queries only, and read an earlier layer's cache."""
        kind, dim, shared = self.kinds[place], self.width_of_head, self.shares(place)
        return self.attention(
            rotary=self.rotary_at(kind, config),
            qk_norm_numbers=dim if shared else 2 * dim,
            shares_cache=shared,
            sliding_window=self.sliding_window if kind == SLIDING else None,
        )

    def mlp_at(self, place: int) -> Mlp:
        """A dense MLP, of a width by layer, with what AltUp, Laurel and the layer's inputs add."""
        hidden, streams = self.hidden_size, self.altup_num_inputs
        width = self.widths[place] if self.widths else self.intermediate_size
        wide, narrow, mixed = repeated(hidden), repeated(self.laurel_rank), repeated(streams)
        altup = (
            Matrix("altup_router", (mixed,), wide, quantized=False),
            Matrix("altup_predict", (repeated(streams**2),), mixed, quantized=False),
            Matrix("altup_correct", (mixed,), mixed, quantized=False),
        )
        laurel = (Matrix("laurel_left", (narrow,), wide), Matrix("laurel_right", (wide,), narrow))
        return Extended(
            mlp=Dense(hidden_size=hidden, width=width, activation=self.hidden_act),
            more=(*altup, *laurel, *self.layer_inputs),
            again=altup[:1],
            # Norms of the router, the narrow residual and the layer's inputs; a scale.
            more_vectors=4 * hidden,
            # Streams are read and written to predict and to correct; norms.
            moved_numbers=(4 * streams + 6) * hidden,
        )

    @property
    def once(self) -> Once:
        """Streams are made from the embedding and joined before the head."""
        wide = repeated(self.hidden_size)
        stream = Matrix("altup_stream", (wide,), wide, quantized=False)
        plain = super().once
        return replace(
            plain, matrices=(*plain.matrices, *((stream,) * 2 * (self.altup_num_inputs - 1)))
        )


FAMILIES = {
    "gemma3n_text": Family("Gemma3nForCausalLM", Gemma3nKeys, NAMES),
    "gemma4_text": Family("Gemma4ForCausalLM", Gemma4Keys, NAMES),
    "gemma4_unified_text": Family("Gemma4UnifiedForCausalLM", Gemma4Keys, NAMES),
}
