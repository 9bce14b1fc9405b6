"""``model_type: llama``, and the base of every family with rotary positions and gated MLPs."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, PositiveFloat, model_validator

from model.families.keys import Activation, Config, Family, Keys, LayerCount, PositiveInt
from model.lengths import longest_request, rotary_share, rotary_table_rows
from model.mixers.attention import Attention
from model.mixers.mixer import Mixer, Rotary
from model.mlps.dense import Dense
from model.mlps.mlp import Mlp
from model.norm import Norm
from model.quantization.modules import names_below
from model.shape import DecoderSpec, Embedding, Head, grouped

LAYER = "model.layers.{i}"
ATTENTION = {
    "qkv_proj": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "o_proj": "self_attn.o_proj",
}
NAMES = names_below(
    LAYER, **ATTENTION, mlp_up="mlp.gate_proj mlp.up_proj", mlp_down="mlp.down_proj"
)


class RopeParameters(BaseModel):
    """Rotary settings as recent files nest them."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )

    rope_theta: PositiveFloat | None = None


class LlamaKeys(Keys):
    """Every layer attends all positions."""

    default_theta: ClassVar[float] = 10_000.0
    """Base of the rotary frequencies of a file that gives none."""
    qk_norm: ClassVar[bool] = False
    """Query and key are normalised per head."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: LayerCount
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    max_position_embeddings: PositiveInt
    hidden_act: Activation = "silu"
    rms_norm_eps: PositiveFloat = 1e-6
    rope_theta: PositiveFloat | None = None
    rope_parameters: RopeParameters | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    @model_validator(mode="after")
    def _heads_divide(self) -> "LlamaKeys":
        heads, kv_heads = self.num_attention_heads, self.kv_heads
        if heads % kv_heads:
            choices = [n for n in range(1, heads + 1) if heads % n == 0]
            closest = min(choices, key=lambda n: abs(n - kv_heads))
            raise ValueError(
                f"num_key_value_heads = {kv_heads}: expected a divisor of num_attention_heads = "
                f"{heads}; nearest: {closest}"
            )
        if self.head_dim is None and self.hidden_size % heads:
            raise ValueError(
                f"hidden_size = {self.hidden_size}: expected a multiple of num_attention_heads = "
                f"{heads}, or head_dim given"
            )
        return self

    @property
    def kv_heads(self) -> int:
        """Key and value heads; one per attention head where the file does not say."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def width_of_head(self) -> int:
        """``head_dim``, or the hidden size split evenly over the attention heads."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def theta(self) -> float:
        """Base of the rotary frequencies, from ``rope_theta`` or ``rope_parameters``."""
        nested = self.rope_parameters.rope_theta if self.rope_parameters else None
        return self.rope_theta or nested or self.default_theta

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the query, key and value projections have biases."""
        return self.attention_bias

    @property
    def has_output_bias(self) -> bool:
        """Whether the projection behind the attention has a bias."""
        return self.attention_bias

    @property
    def window(self) -> int | None:
        """Positions that a token attends, itself included; None for all of them."""
        return None

    @property
    def chunk_tokens(self) -> int | None:
        """See ``DecoderSpec.attention_chunk_tokens``."""
        return None

    def mixer(self, config: Config) -> Attention:
        """Return the attention of a layer."""
        rows = rotary_table_rows(config, self.max_position_embeddings)
        rotated = int(self.width_of_head * rotary_share(config))
        return Attention(
            hidden_size=self.hidden_size,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.kv_heads,
            head_dim=self.width_of_head,
            sliding_window=self.window,
            rotary=Rotary(self.theta, rows, rotated),
            qkv_bias=self.has_qkv_bias,
            output_bias=self.has_output_bias,
            qk_norm=self.qk_norm,
        )

    def mlp(self) -> Mlp:
        """Return the MLP of a layer."""
        return Dense(
            hidden_size=self.hidden_size,
            width=self.intermediate_size,
            activation=self.hidden_act,
            bias=self.mlp_bias,
        )

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """Return the mixer and the MLP of every layer; here all are equal."""
        return [(self.mixer(config), self.mlp())] * self.num_hidden_layers

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        norm = Norm("rmsnorm", self.rms_norm_eps, self.hidden_size)
        return DecoderSpec(
            name=name,
            architecture=architecture,
            embedding=Embedding(vocab_size=self.vocab_size, hidden_size=self.hidden_size),
            layers=grouped(self.each_layer(config), norm),
            head=Head(norm=norm, tied=self.tie_word_embeddings),
            max_position_embeddings=self.max_position_embeddings,
            max_model_len=longest_request(config, self.max_position_embeddings),
            attention_chunk_tokens=self.chunk_tokens,
        )


FAMILY = Family("LlamaForCausalLM", LlamaKeys, NAMES)
