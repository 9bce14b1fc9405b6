"""``model_type: gpt2``: learned positions, one fused biased projection, plain MLP."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat, model_validator

from model.families.keys import Activation, Config, Family, Keys, LayerCount, PositiveInt
from model.families.learned import learned_decoder
from model.quantization.modules import names_below
from model.shape import DecoderSpec


class Gpt2Keys(Keys):
    """Names of their own for everything."""

    positions_key: ClassVar[str] = "n_positions"

    n_embd: PositiveInt
    n_head: PositiveInt
    n_layer: LayerCount
    n_positions: PositiveInt
    n_inner: PositiveInt | None = None
    activation_function: Activation = "gelu_tanh"
    layer_norm_epsilon: PositiveFloat = 1e-5
    tie_word_embeddings: bool = True
    add_cross_attention: Literal[False] = False
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False

    @model_validator(mode="after")
    def _heads_divide(self) -> "Gpt2Keys":
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd = {self.n_embd}: expected a multiple of n_head = {self.n_head}"
            )
        return self

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        return learned_decoder(
            name,
            architecture,
            config,
            vocab_size=self.vocab_size,
            layers=self.n_layer,
            heads=self.n_head,
            hidden=self.n_embd,
            width=self.n_inner or 4 * self.n_embd,
            activation=self.activation_function,
            positions=self.n_positions,
            position_rows=self.n_positions,
            eps=self.layer_norm_epsilon,
            bias=True,
            tied=self.tie_word_embeddings,
        )


FAMILY = Family(
    "GPT2LMHeadModel",
    Gpt2Keys,
    names_below(
        "transformer.h.{i}",
        qkv_proj="attn.c_attn",
        o_proj="attn.c_proj",
        mlp_up="mlp.c_fc",
        mlp_down="mlp.c_proj",
    ),
)
