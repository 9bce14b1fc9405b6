"""The decoder of families with learned positions, LayerNorm, biases and a plain MLP."""

from model.families.keys import Config
from model.lengths import longest_request
from model.mixers.attention import Attention
from model.mlps.dense import Dense
from model.norm import Norm
from model.shape import DecoderSpec, Embedding, Head, grouped


def learned_decoder(
    name: str,
    architecture: str,
    config: Config,
    *,
    vocab_size: int,
    layers: int,
    heads: int,
    hidden: int,
    width: int,
    activation: str,
    positions: int,
    position_rows: int,
    eps: float,
    bias: bool,
    tied: bool,
) -> DecoderSpec:
    """Return a decoder whose heads split the hidden size evenly, each with keys of its own."""
    norm = Norm("layernorm", eps, hidden)
    attention = Attention(
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        qkv_bias=bias,
        output_bias=bias,
    )
    mlp = Dense(hidden_size=hidden, width=width, gated=False, activation=activation, bias=bias)
    return DecoderSpec(
        name=name,
        architecture=architecture,
        embedding=Embedding(vocab_size=vocab_size, hidden_size=hidden, position_rows=position_rows),
        layers=grouped([(attention, mlp)] * layers, norm),
        head=Head(norm=norm, tied=tied),
        max_position_embeddings=positions,
        max_model_len=longest_request(config, positions),
    )
