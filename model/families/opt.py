"""``model_type: opt``: learned positions that start at row 2, plain MLP, norms before."""

from typing import Literal

from pydantic import Field, model_validator

from model.families.keys import Activation, Config, Family, Keys, LayerCount, PositiveInt
from model.families.learned import learned_decoder
from model.quantization.modules import names_below
from model.shape import DecoderSpec

UNUSED_ROWS = 2
"""Never used for text: position p is row p + 2."""


class OptKeys(Keys):
    """OPT with embeddings as wide as the model."""

    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    num_hidden_layers: LayerCount
    ffn_dim: PositiveInt
    max_position_embeddings: PositiveInt
    word_embed_proj_dim: PositiveInt | None = None
    activation_function: Activation = "relu"
    enable_bias: bool = True
    tie_word_embeddings: bool = True
    do_layer_norm_before: Literal[True] = True
    layer_norm_elementwise_affine: Literal[True] = True
    remove_final_layer_norm: Literal[False] = Field(
        default=False, validation_alias="_remove_final_layer_norm"
    )

    @model_validator(mode="after")
    def _shapes_agree(self) -> "OptKeys":
        hidden, heads = self.hidden_size, self.num_attention_heads
        if self.word_embed_proj_dim not in (None, hidden):
            raise ValueError(
                f"word_embed_proj_dim = {self.word_embed_proj_dim}: expected hidden_size = "
                f"{hidden}; embeddings of another width than the model are not modelled"
            )
        if hidden % heads:
            raise ValueError(
                f"hidden_size = {hidden}: expected a multiple of num_attention_heads = {heads}"
            )
        return self

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        return learned_decoder(
            name,
            architecture,
            config,
            vocab_size=self.vocab_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            hidden=self.hidden_size,
            width=self.ffn_dim,
            activation=self.activation_function,
            positions=self.max_position_embeddings,
            position_rows=self.max_position_embeddings + UNUSED_ROWS,
            eps=1e-5,
            bias=self.enable_bias,
            tied=self.tie_word_embeddings,
        )


FAMILY = Family(
    "OPTForCausalLM",
    OptKeys,
    names_below(
        "model.decoder.layers.{i}",
        qkv_proj="self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        o_proj="self_attn.out_proj",
        mlp_up="fc1",
        mlp_down="fc2",
    ),
)
