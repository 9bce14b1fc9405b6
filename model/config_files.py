"""What a Hugging Face ``config.json`` says, one pydantic model per architecture.

Only the keys that decide shapes and arithmetic are read here; ``quantization_config`` and the
scaling of positions have readers of their own (``model.quantization``, ``model.lengths``), and the
many others of such a file are ignored. Shapes must be given. Another key that a file leaves out
takes the default of its configuration class in ``transformers``, because files written for that
class rely on it. What this project cannot represent (mixed attention windows, embeddings narrower
than the model, dense layers between sparse ones) is an error, never an approximation.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    model_validator,
)

from model.errors import one_of

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""Name in a config file to the function it stands for."""


PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
"""Any count; what is larger is a slip of the pen."""
Layers = Annotated[int, Field(gt=0, le=4096)]
Experts = Annotated[int, Field(gt=0, le=65_536)]


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        known = tuple(ACTIVATIONS)
        raise ValueError(one_of(name, known))
    return ACTIVATIONS[name]


Activation = Annotated[str, AfterValidator(_activation)]


class _ConfigFile(BaseModel):
    model_config = ConfigDict(
        extra="ignore", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True
    )

    vocab_size: PositiveInt


class RopeParameters(BaseModel):
    """Rotary settings as recent files nest them."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    rope_theta: PositiveFloat | None = None


class LlamaConfig(_ConfigFile):
    """``model_type: llama``, and the base of every architecture with rotary positions."""

    default_theta: ClassVar[float] = 10_000.0
    """Base of the rotary frequencies of a file that gives none."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: Layers
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
    def _heads_divide(self) -> "LlamaConfig":
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


class MistralConfig(LlamaConfig):
    """``model_type: mistral``: every layer attends a sliding window, unless it is null."""

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    sliding_window: PositiveInt | None = 4096

    @property
    def window(self) -> int | None:
        return self.sliding_window


class Phi3Config(LlamaConfig):
    """``model_type: phi3``: Llama's shapes, with fused matrices in the file, and maybe a window."""

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    sliding_window: PositiveInt | None = None

    @property
    def window(self) -> int | None:
        return self.sliding_window


class Qwen2Config(LlamaConfig):
    """``model_type: qwen2``: biased query, key and value projections."""

    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    use_sliding_window: bool = False
    sliding_window: NonNegativeInt | None = 4096
    max_window_layers: NonNegativeInt = 28
    layer_types: list[str] | None = None

    @model_validator(mode="after")
    def _one_kind_of_attention(self) -> "Qwen2Config":
        kinds = set(self._layer_types())
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types has {len(self.layer_types)} entries: expected num_hidden_layers = "
                f"{self.num_hidden_layers}"
            )
        if len(kinds) > 1 or not kinds <= {"full_attention", "sliding_attention"}:
            source = "layer_types" if self.layer_types is not None else "max_window_layers"
            raise ValueError(
                f"{source} = {getattr(self, source)!r}: expected all {self.num_hidden_layers} "
                "layers to be full_attention or all to be sliding_attention"
            )
        return self

    def _layer_types(self) -> list[str]:
        if self.layer_types is not None:
            return self.layer_types
        layers, full = self.num_hidden_layers, self.num_hidden_layers
        if self.use_sliding_window and self.sliding_window:
            full = min(layers, self.max_window_layers)
        return ["full_attention"] * full + ["sliding_attention"] * (layers - full)

    @property
    def window(self) -> int | None:
        if not self.use_sliding_window or self._layer_types()[0] == "full_attention":
            return None
        return self.sliding_window or None

    @property
    def has_qkv_bias(self) -> bool:
        return True

    @property
    def has_output_bias(self) -> bool:
        return False


class Qwen3Config(Qwen2Config):
    """``model_type: qwen3``: query and key are normalised per head; biases are optional."""

    head_dim: PositiveInt | None = 128

    @property
    def has_qkv_bias(self) -> bool:
        return self.attention_bias

    @property
    def has_output_bias(self) -> bool:
        return self.attention_bias


class MixtralConfig(LlamaConfig):
    """``model_type: mixtral``: ``intermediate_size`` is the width of one expert."""

    default_theta: ClassVar[float] = 1_000_000.0

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    sliding_window: PositiveInt | None = None
    num_experts_per_tok: PositiveInt = 2
    num_experts: Experts = Field(
        default=8, validation_alias=AliasChoices("num_local_experts", "num_experts")
    )

    @model_validator(mode="after")
    def _enough_experts(self) -> "MixtralConfig":
        _check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    @property
    def window(self) -> int | None:
        return self.sliding_window


class Llama4TextConfig(LlamaConfig):
    """``model_type: llama4_text``: routed experts beside one shared expert without a gate.

    Three layers of four attend within chunks of ``attention_chunk_size`` positions only. Up to
    that length they attend everything, as the fourth does.
    """

    default_theta: ClassVar[float] = 500_000.0

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    head_dim: PositiveInt | None = 128
    num_experts_per_tok: PositiveInt = 1
    num_experts: Experts = Field(
        default=16, validation_alias=AliasChoices("num_local_experts", "num_experts")
    )
    interleave_moe_layer_step: int = 1
    attention_chunk_size: PositiveInt | None = 8192

    @model_validator(mode="after")
    def _every_layer_is_sparse(self) -> "Llama4TextConfig":
        _check_experts(self.num_experts_per_tok, self.num_experts)
        if self.interleave_moe_layer_step != 1:
            raise ValueError(
                f"interleave_moe_layer_step = {self.interleave_moe_layer_step}: expected 1, "
                "experts in every layer"
            )
        return self


class _QwenMoeConfig(Qwen2Config):
    moe_intermediate_size: PositiveInt
    num_experts_per_tok: PositiveInt
    num_experts: Experts = Field(validation_alias=AliasChoices("num_experts", "num_local_experts"))
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None

    @model_validator(mode="after")
    def _every_layer_is_sparse(self) -> "_QwenMoeConfig":
        _check_experts(self.num_experts_per_tok, self.num_experts)
        if self.decoder_sparse_step != 1:
            raise ValueError(
                f"decoder_sparse_step = {self.decoder_sparse_step}: expected 1, experts in every "
                "layer"
            )
        if self.mlp_only_layers:
            raise ValueError(
                f"mlp_only_layers = {self.mlp_only_layers}: expected [], experts in every layer"
            )
        return self


class Qwen2MoeConfig(_QwenMoeConfig):
    """``model_type: qwen2_moe``: routed experts beside one shared expert with its own gate."""

    qkv_bias: bool = True
    shared_expert_intermediate_size: PositiveInt = 5632

    @property
    def has_qkv_bias(self) -> bool:
        return self.qkv_bias


class Qwen3MoeConfig(_QwenMoeConfig):
    """``model_type: qwen3_moe``: routed experts only; query and key are normalised per head."""

    @property
    def has_qkv_bias(self) -> bool:
        return self.attention_bias

    @property
    def has_output_bias(self) -> bool:
        return self.attention_bias

    def _layer_types(self) -> list[str]:
        # Unlike in the other Qwen files, the window holds in every layer or in none.
        return ["sliding_attention" if self.use_sliding_window else "full_attention"]


class Gpt2Config(_ConfigFile):
    """``model_type: gpt2``: learned positions, one fused biased projection, plain MLP."""

    n_embd: PositiveInt
    n_head: PositiveInt
    n_layer: Layers
    n_positions: PositiveInt
    n_inner: PositiveInt | None = None
    activation_function: Activation = "gelu_tanh"
    layer_norm_epsilon: PositiveFloat = 1e-5
    tie_word_embeddings: bool = True
    add_cross_attention: Literal[False] = False
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False

    @model_validator(mode="after")
    def _heads_divide(self) -> "Gpt2Config":
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd = {self.n_embd}: expected a multiple of n_head = {self.n_head}"
            )
        return self


class OptConfig(_ConfigFile):
    """``model_type: opt``: learned positions that start at row 2, plain MLP, norms before."""

    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    num_hidden_layers: Layers
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
    def _shapes_agree(self) -> "OptConfig":
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


def _check_experts(chosen: int, experts: int) -> None:
    if chosen > experts:
        raise ValueError(
            f"num_experts_per_tok = {chosen}: expected at most the number of experts = {experts}"
        )


AnyConfig = LlamaConfig | Gpt2Config | OptConfig
