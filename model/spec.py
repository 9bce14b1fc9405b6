"""What a decoder is: its shape, read from a Hugging Face ``config.json``, and what follows from it.

Parameter counts are exact: every weight, bias, norm, router and position row. Positions beyond
``max_position_embeddings`` and the scaling of rotary frequencies are not represented, since neither
changes a count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model.config_files import (
    Gpt2Config,
    Llama4TextConfig,
    LlamaConfig,
    MixtralConfig,
    OptConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)
from model.errors import ConfigError, UnknownArchitectureError, UnknownModelError, nearest
from model.huggingface import read_config
from model.names import ModelName, plain_name, resolve_name
from model.text_file import TextFileError, read_json

__all__ = [
    "ConfigError",
    "DecoderSpec",
    "UnknownArchitectureError",
    "UnknownModelError",
    "catalogue",
    "load_spec",
    "resolve_model",
    "spec_from_config",
]

MOST_LAYERS, LARGEST_NUMBER = 10_000, 10**10
"""In a config file: what is larger is a slip, and would be made before it is seen."""
CATALOGUE = Path(__file__).parent / "catalogue"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """The shape of a decoder-only transformer with equal layers."""

    name: str
    architecture: str
    """llama, mistral, phi3, qwen2, qwen3, gpt2, opt, mixtral, qwen2_moe, qwen3_moe or
    llama4_text."""
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    """Width of the dense MLP; 0 when every layer has experts instead."""
    vocab_size: int
    max_position_embeddings: int
    gated_mlp: bool
    """Gate, up and down matrices (SwiGLU); otherwise up and down."""
    activation: str
    """silu, gelu, gelu_tanh or relu."""
    norm: str
    """rmsnorm (a weight) or layernorm (a weight and a bias)."""
    norm_eps: float
    positions: str
    """rope or learned."""
    position_rows: int
    """Rows of the learned position table (OPT: two more than positions); 0 for rope."""
    rope_theta: float
    """Base of the rotary frequencies; 0 for learned positions."""
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    """RMSNorm over the head dimension of queries and keys (Qwen3)."""
    tied_embeddings: bool
    """The LM head is the token embedding."""
    sliding_window: int | None
    """Positions that a token attends, itself included; None for all of them."""
    num_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    """Width of one routed expert."""
    shared_expert_intermediate_size: int = 0
    """Width of the expert that every token takes (Qwen2-MoE, Llama 4); 0 for none."""
    shared_expert_gate: bool = False
    """The shared expert's output is weighted by a gate of its own (Qwen2-MoE)."""
    attention_chunk_tokens: int | None = None
    """Positions up to which every layer attends everything; beyond, most layers attend within
    chunks of this many (Llama 4), which is not modelled. None: no such limit."""

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def mlp_matrices(self) -> int:
        """3 for a gated MLP, 2 for a plain one."""
        return 3 if self.gated_mlp else 2

    def attention_matrix_parameters(self) -> int:
        """Weights of one layer's query, key, value and output matrices, without biases."""
        return self.hidden_size * (2 * self.query_size + 2 * self.kv_size)

    def expert_matrix_parameters(self) -> int:
        """Weights of one routed expert."""
        return self.mlp_matrices * self.hidden_size * self.moe_intermediate_size

    def mlp_matrix_parameters(self) -> int:
        """Weights of one layer's dense MLP and shared expert, without biases and experts."""
        width = self.intermediate_size + self.shared_expert_intermediate_size
        return self.mlp_matrices * self.hidden_size * width

    def linear_parameters(self) -> int:
        """Weights that quantization shrinks: attention, MLP and expert matrices of all layers.

        Embeddings, LM head, routers, norms and biases are left out: the usual checkpoints keep
        them in the activations' precision.
        """
        layer = (
            self.attention_matrix_parameters()
            + self.mlp_matrix_parameters()
            + self.num_experts * self.expert_matrix_parameters()
        )
        return self.num_layers * layer

    def router_parameters(self) -> int:
        """Weights of one layer's router and of its shared expert's gate."""
        gate = self.hidden_size if self.shared_expert_gate else 0
        return self.hidden_size * self.num_experts + gate

    def bias_parameters(self) -> int:
        """Biases of one layer's matrices."""
        qkv = self.query_size + 2 * self.kv_size if self.qkv_bias else 0
        output = self.hidden_size if self.output_bias else 0
        inner = (self.mlp_matrices - 1) * self.intermediate_size
        mlp = inner + self.hidden_size if self.mlp_bias else 0
        return qkv + output + mlp

    def norm_parameters(self) -> int:
        """Weights (and biases) of one norm over the hidden size."""
        return self.hidden_size * (2 if self.norm == "layernorm" else 1)

    def embedding_parameters(self) -> int:
        """Rows of the token embedding and of the learned positions."""
        return (self.vocab_size + self.position_rows) * self.hidden_size

    def lm_head_parameters(self) -> int:
        """Weights of an LM head of its own; 0 when it is the token embedding."""
        return 0 if self.tied_embeddings else self.vocab_size * self.hidden_size

    def parameters(self) -> int:
        """Every parameter of the model, exactly."""
        qk_norms = 2 * self.head_dim if self.qk_norm else 0
        layer = (
            self.router_parameters()
            + self.bias_parameters()
            + 2 * self.norm_parameters()
            + qk_norms
        )
        return (
            self.linear_parameters()
            + self.num_layers * layer
            + self.norm_parameters()
            + self.embedding_parameters()
            + self.lm_head_parameters()
        )

    def active_parameters(self) -> int:
        """Parameters that one token passes through: all but the experts it is not routed to."""
        idle = self.num_experts - self.experts_per_token
        return self.parameters() - self.num_layers * idle * self.expert_matrix_parameters()

    def kv_bytes_per_token(self, kv_dtype_bytes: float) -> float:
        """Bytes that one token keeps in the KV cache: keys and values of all layers.

        ``2 * layers * kv_heads * head_dim * bytes`` over the whole model; a tensor-parallel rank
        holds its share of the heads.
        """
        return 2 * self.num_layers * self.kv_size * kv_dtype_bytes


def spec_from_config(
    config: Mapping[str, object], name: str, *, source: str | None = None
) -> DecoderSpec:
    """Read the contents of a Hugging Face ``config.json``.

    Args:
        config: the parsed file.
        name: what the model is called from here on.
        source: what error messages call the config; the name unless given.

    Raises:
        UnknownArchitectureError: the architecture is not modelled, or not given.
        ConfigError: keys are missing, ill-typed or inconsistent; all of them are listed.
    """
    _check_numbers(config, source or name)
    architecture, file = read_config(config, source or name)
    if isinstance(file, Gpt2Config):
        return _gpt2(name, file)
    if isinstance(file, OptConfig):
        return _opt(name, file)
    return _llama_like(name, architecture, file)


def _check_numbers(config: Mapping[str, object], source: str) -> None:
    """Refuse sizes that no model has, before anything is made of that size."""
    for key, value in config.items():
        most = MOST_LAYERS if "layer" in key else LARGEST_NUMBER
        if isinstance(value, int) and abs(value) > most:
            raise ConfigError(f"{source}: {key[:60]} = {str(value)[:30]}, expected at most {most}")


def _llama_like(name: str, architecture: str, file: LlamaConfig) -> DecoderSpec:
    experts = chosen = expert_width = shared_width = 0
    if isinstance(file, MixtralConfig | Llama4TextConfig):
        experts, chosen = file.num_experts, file.num_experts_per_tok
        expert_width = file.intermediate_size
        if isinstance(file, Llama4TextConfig):
            shared_width = file.intermediate_size
    elif isinstance(file, Qwen2MoeConfig | Qwen3MoeConfig):
        experts, chosen = file.num_experts, file.num_experts_per_tok
        expert_width = file.moe_intermediate_size
        if isinstance(file, Qwen2MoeConfig):
            shared_width = file.shared_expert_intermediate_size
    return DecoderSpec(
        name=name,
        architecture=architecture,
        num_layers=file.num_hidden_layers,
        hidden_size=file.hidden_size,
        num_heads=file.num_attention_heads,
        num_kv_heads=file.kv_heads,
        head_dim=file.width_of_head,
        intermediate_size=0 if experts else file.intermediate_size,
        vocab_size=file.vocab_size,
        max_position_embeddings=file.max_position_embeddings,
        gated_mlp=True,
        activation=file.hidden_act,
        norm="rmsnorm",
        norm_eps=file.rms_norm_eps,
        positions="rope",
        position_rows=0,
        rope_theta=file.theta,
        qkv_bias=file.has_qkv_bias,
        output_bias=file.has_output_bias,
        mlp_bias=file.mlp_bias,
        qk_norm=architecture in ("qwen3", "qwen3_moe"),
        tied_embeddings=file.tie_word_embeddings,
        sliding_window=file.window,
        num_experts=experts,
        experts_per_token=chosen,
        moe_intermediate_size=expert_width,
        shared_expert_intermediate_size=shared_width,
        shared_expert_gate=isinstance(file, Qwen2MoeConfig),
        attention_chunk_tokens=getattr(file, "attention_chunk_size", None),
    )


def _gpt2(name: str, file: Gpt2Config) -> DecoderSpec:
    return DecoderSpec(
        name=name,
        architecture="gpt2",
        num_layers=file.n_layer,
        hidden_size=file.n_embd,
        num_heads=file.n_head,
        num_kv_heads=file.n_head,
        head_dim=file.n_embd // file.n_head,
        intermediate_size=file.n_inner or 4 * file.n_embd,
        vocab_size=file.vocab_size,
        max_position_embeddings=file.n_positions,
        gated_mlp=False,
        activation=file.activation_function,
        norm="layernorm",
        norm_eps=file.layer_norm_epsilon,
        positions="learned",
        position_rows=file.n_positions,
        rope_theta=0.0,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        qk_norm=False,
        tied_embeddings=file.tie_word_embeddings,
        sliding_window=None,
    )


def _opt(name: str, file: OptConfig) -> DecoderSpec:
    return DecoderSpec(
        name=name,
        architecture="opt",
        num_layers=file.num_hidden_layers,
        hidden_size=file.hidden_size,
        num_heads=file.num_attention_heads,
        num_kv_heads=file.num_attention_heads,
        head_dim=file.hidden_size // file.num_attention_heads,
        intermediate_size=file.ffn_dim,
        vocab_size=file.vocab_size,
        max_position_embeddings=file.max_position_embeddings,
        gated_mlp=False,
        activation=file.activation_function,
        norm="layernorm",
        norm_eps=1e-5,
        positions="learned",
        # The first two rows are never used for text: position p is row p + 2.
        position_rows=file.max_position_embeddings + 2,
        rope_theta=0.0,
        qkv_bias=file.enable_bias,
        output_bias=file.enable_bias,
        mlp_bias=file.enable_bias,
        qk_norm=False,
        tied_embeddings=file.tie_word_embeddings,
        sliding_window=None,
    )


@lru_cache(maxsize=1)
def catalogue() -> tuple[str, ...]:
    """Names of the bundled models, sorted."""
    return tuple(sorted(path.stem for path in CATALOGUE.glob("*.json")))


def load_spec(name_or_path: str | Path) -> DecoderSpec:
    """Return a model of the catalogue, or the one that a ``config.json`` describes.

    Args:
        name_or_path: a name of the catalogue or of huggingface.co (``resolve_model``); or a path to
            a config file, or to a folder that holds ``config.json``. A path that exists goes before
            a name with an organisation.

    Raises:
        UnknownModelError: neither a name nor a path; names the nearest model.
        UnknownArchitectureError, ConfigError: see ``spec_from_config``.
    """
    path = Path(name_or_path)
    if str(name_or_path).lower() not in catalogue() and path.exists():
        return _load_path(path)
    name = resolve_model(str(name_or_path)).model
    file = CATALOGUE / f"{name}.json"
    return spec_from_config(_read_json(file), name, source=str(file))


def resolve_model(name: str) -> ModelName:
    """Return the model of the catalogue that a published name means, and its quantization.

    Case, organisation, variant, date and format do not matter: ``TheBloke/Llama-2-7B-Chat-AWQ`` is
    llama-2-7b with int4 weights.

    Raises:
        UnknownModelError: the catalogue has no such model; names the nearest.
    """
    found = resolve_name(name, catalogue())
    if found is None:
        raise UnknownModelError(
            f"model = {name!r} is neither in the catalogue nor a path that exists, "
            f"expected a path to a config.json or one of {', '.join(catalogue())}"
            f"{nearest(plain_name(name), catalogue())}"
        )
    return found


def _load_path(path: Path) -> DecoderSpec:
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise UnknownModelError(f"model = {str(path)!r} is a folder without a config.json")
    name = file.resolve().parent.name if file.name == "config.json" else file.stem
    return spec_from_config(_read_json(file), name, source=str(file))


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        config = read_json(path)
    except TextFileError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config
