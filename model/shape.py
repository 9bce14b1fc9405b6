"""What a decoder is: its shape, and what follows from it.

Parameter counts are exact: every weight, bias, norm, router and position row.
"""

from dataclasses import dataclass

from model.quantization.checkpoint import UNSAID, Checkpoint


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
    max_model_len: int
    """Longest prompt plus output, in tokens, as vLLM derives it from the config."""
    rotary_table: tuple[int, int] = (0, 0)
    """Positions and numbers per position of the table of cosines and sines that an engine keeps."""
    checkpoint: Checkpoint = UNSAID
    """How its numbers are stored."""

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
