"""Small models and steps whose operators are counted."""

from collections.abc import Iterable
from typing import Any

from model.ops import Operator, sequence_operators, token_operators
from model.precision import precision
from model.spec import DecoderSpec, load_spec
from tests.decoders import changed

BF16 = precision()
LLAMA_2_7B = load_spec("llama-2-7b")


LLAMA_3_70B = load_spec("llama-3-70b")
MIXTRAL = load_spec("mixtral-8x7b")


QWEN_MOE = load_spec("qwen1.5-moe-a2.7b")
ONE_HEAD = changed(LLAMA_2_7B, 1, name="one-head", num_heads=1, num_kv_heads=1, head_dim=128)


TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 50,
}


TINY_GPT2: dict[str, Any] = {
    "n_embd": 64,
    "n_head": 8,
    "n_layer": 1,
    "n_positions": 50,
    "vocab_size": 101,
}


def step_flops(operators: Iterable[Operator]) -> float:
    return sum(float(op.layers * op.flops) for op in operators)


def step_bytes(operators: Iterable[Operator]) -> float:
    return sum(float(op.layers * op.bytes) for op in operators)


def named(operators: Iterable[Operator], name: str) -> Operator:
    (found,) = [op for op in operators if op.name == name]
    return found


def gemms(operators: Iterable[Operator]) -> list[Operator]:
    return [op for op in operators if op.kind == "gemm"]


def step(spec: DecoderSpec, tokens: float, tp: int = 1) -> list[Operator]:
    return [
        *token_operators(spec, tokens, precision=BF16, tp=tp),
        *sequence_operators(spec, tokens, precision=BF16, tp=tp),
    ]
