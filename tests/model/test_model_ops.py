"""FLOPs and traffic of the operators of a step, against closed forms and a counting torch."""

from typing import Any

import numpy as np
import pytest

from model.alike import attention_of
from model.from_config import spec_from_config
from model.mlps.experts import Experts
from model.ops import (
    Operator,
    decode_attention,
    prefill_attention,
    rank_vocabulary,
    rank_weight_bytes,
    sequence_operators,
    step_operators,
    tensor_parallel_sizes,
    token_operators,
)
from model.precision import Precision, precision
from model.spec import load_spec
from tests.model.small_steps import (
    BF16,
    LLAMA_2_7B,
    LLAMA_3_70B,
    MIXTRAL,
    QWEN_MOE,
    TINY,
    TINY_GPT2,
    gemms,
    named,
    step,
    step_bytes,
    step_flops,
)


def test_operators_of_a_llama_step_in_order() -> None:
    operators = step_operators(LLAMA_2_7B, 2, 30, [(16, 0)], precision=BF16)
    assert [(op.name, op.kind, op.layers) for op in operators] == [
        ("embedding", "gather", 1),
        ("input_norm", "norm", 32),
        ("qkv_proj", "gemm", 32),
        ("rope", "elementwise", 32),
        ("o_proj", "gemm", 32),
        ("post_norm", "norm", 32),
        ("mlp_up", "gemm", 32),
        ("mlp_act", "elementwise", 32),
        ("mlp_down", "gemm", 32),
        ("residual", "elementwise", 32),
        ("attention", "attention", 32),
        ("attention", "attention", 32),
        ("final_norm", "norm", 1),
        ("lm_head", "gemm", 1),
    ]
    assert named(operators, "qkv_proj").gemm == (18, 3 * 4096, 4096)
    assert named(operators, "lm_head").gemm == (3, 32000, 4096)


def test_operators_that_only_some_models_have() -> None:
    names = {op.name for op in step(load_spec("qwen3-14b"), 1)}
    assert {"qk_norm", "rope"} <= names
    assert "rope" not in {op.name for op in step(load_spec("opt-13b"), 1)}
    names = {op.name for op in step(MIXTRAL, 1)}
    assert {"router", "experts", "experts_act", "experts_sum"} <= names
    assert not names & {"mlp_up", "shared_expert_gate"}
    assert {"mlp_up", "shared_expert_gate"} <= {op.name for op in step(QWEN_MOE, 1)}


@pytest.mark.parametrize("tokens", [1, 17, 2048])
def test_gemm_flops_are_twice_the_linear_parameters_per_token(tokens: int) -> None:
    # All parameters but the embedding and the 65 norms are in matrices that every row goes through.
    linear = 6_738_415_616 - 32_000 * 4096 - 65 * 4096
    assert step_flops(gemms(step(LLAMA_2_7B, tokens))) == 2 * linear * tokens


def test_gemm_flops_of_experts_count_the_active_ones() -> None:
    active = QWEN_MOE.active_parameters()
    biases = QWEN_MOE.num_layers * 3 * 2048  # 16 heads of 128 numbers each of q, k and v
    norms = (2 * QWEN_MOE.num_layers + 1) * 2048
    linear = active - biases - norms - QWEN_MOE.embedding_parameters()
    assert step_flops(gemms(step(QWEN_MOE, 100))) == 2 * linear * 100


@pytest.mark.parametrize("name", ["llama-2-7b", "mixtral-8x7b", "qwen1.5-moe-a2.7b", "gpt2-xl"])
def test_gemm_flops_are_2mnk(name: str) -> None:
    for op in gemms(step(load_spec(name), 33)):
        assert op.gemm is not None
        m, n, k = op.gemm
        assert op.flops == 2 * m * n * k


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [("llama", TINY), ("qwen3", {**TINY, "head_dim": 16}), ("gpt2", TINY_GPT2)],
)
def test_flops_of_a_block_equal_the_flop_counter_of_torch(
    model_type: str, settings: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    tokens, spec = 37, spec_from_config({**settings, "model_type": model_type}, "tiny")
    config = transformers.AutoConfig.for_model(model_type, **settings)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
        rows = torch.empty(1, tokens, spec.hidden_size)
        angles = torch.empty(1, tokens, attention_of(spec).head_dim)
        block = (model.layers if attention_of(spec).rotary else model.h)[0]
        rotary = {"position_embeddings": (angles, angles)} if attention_of(spec).rotary else {}
        with FlopCounterMode(display=False) as counter:
            block(rows, **rotary)
    products = gemms(token_operators(spec, tokens, precision=BF16)) + [
        op
        for op in prefill_attention(spec, tokens, 0, precision=BF16, fused=False)
        if op.name != "attn_softmax"
    ]
    assert step_flops(products) == counter.get_total_flops()


def test_expected_experts() -> None:
    # One token touches its own 2 of 8; two tokens 8 (1 - (3/4)^2) = 3.5; many touch all.
    experts = Experts(hidden_size=64, num_experts=8, per_token=2, width=16)
    assert experts.expected(0) == 0
    assert experts.expected(1) == pytest.approx(2)
    assert experts.expected(2) == pytest.approx(3.5)
    assert experts.expected(1000) == pytest.approx(8)


def test_expected_experts_against_drawn_routings() -> None:
    # 4000 draws: the mean is within 5 standard errors but once in about two million seeds.
    rng = np.random.default_rng(0)
    experts, chosen = 60, 4
    mixture = Experts(hidden_size=64, num_experts=experts, per_token=chosen, width=16)
    drawn = rng.random((4000, 10, experts)).argsort(axis=2)[:, :, :chosen]
    touched = np.array([len(np.unique(routing)) for routing in drawn])
    error = touched.std() / np.sqrt(len(touched))
    assert abs(touched.mean() - mixture.expected(10)) < 5 * error


def test_experts_read_only_the_touched_weights() -> None:
    one_expert = 3 * 4096 * 14336
    op = named(step(MIXTRAL, 1), "experts")
    assert op.weight_bytes == pytest.approx(2 * one_expert * 2)
    op = named(step(MIXTRAL, 4096), "experts")
    assert op.weight_bytes == pytest.approx(8 * one_expert * 2)


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2-xl", "opt-13b", "qwen3-14b"])
def test_a_step_reads_every_weight_but_the_other_embedding_rows(name: str) -> None:
    spec, tokens = load_spec(name), 5
    read = sum(float(op.layers * op.weight_bytes) for op in step(spec, tokens))
    # A tied token embedding is read in full, as the LM head.
    looked_up = spec.embedding.position_rows + (0 if spec.head.tied else spec.vocab_size)
    padding = -spec.vocab_size % 64  # of the LM head, to a multiple of 64
    tables = (looked_up - padding) * spec.hidden_size
    rows = tokens * spec.hidden_size * (2 if spec.embedding.position_rows else 1)
    # The weights of the two small norms over a head stay in registers.
    qk_norms = spec.num_layers * spec.layers[0].mixer.vector_numbers
    assert read == 2 * (spec.parameters() - tables - qk_norms + rows)


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-70b", "qwen3-32b", "mixtral-8x7b"])
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_ranks_share_the_flops(name: str, tp: int) -> None:
    spec = load_spec(name)
    repeated = {"input_norm", "post_norm", "final_norm", "residual", "router", "experts_sum"}
    arguments: dict[str, Any] = {"decodes": 3, "context_tokens": 999, "chunks": [(64, 128)]}
    for fused in (True, False):
        whole = step_operators(spec, **arguments, precision=BF16, fused=fused)
        rank = step_operators(spec, **arguments, precision=BF16, tp=tp, fused=fused)
        for one, share in zip(whole, rank, strict=True):
            assert share.flops == (one.flops if one.name in repeated else one.flops / tp)
            assert share.kv_bytes == one.kv_bytes / tp


def test_more_ranks_than_kv_heads_keep_copies() -> None:
    assert attention_of(LLAMA_3_70B).heads_on(16) == (4, 1)
    assert LLAMA_3_70B.kv_bytes_per_token(2, 16) == 2 * 2 * 80 * 128
    (op,) = decode_attention(LLAMA_3_70B, 1, 99, precision=BF16, tp=16)
    assert op.kv_bytes == 2 * 128 * 2 * 100


def test_vocabulary_is_padded_to_the_ranks() -> None:
    """50,257 tokens: 786 * 64 = 50,304 with vLLM's padding, and 5 * 10,061 over 5 ranks."""
    assert rank_vocabulary(load_spec("gpt2-xl"), 1) == 50304
    assert rank_vocabulary(load_spec("gpt2-xl"), 5) * 5 == 50305


@pytest.mark.parametrize("tp", [0, -1, 3, 6, 128])
def test_sizes_that_do_not_divide_are_refused(tp: int) -> None:
    nearest = {0: 1, -1: 1, 3: 2, 6: 4, 128: 64}[tp]
    message = f"tensor_parallel_size = {tp} does not divide llama-3-70b .*; nearest: {nearest}$"
    with pytest.raises(ValueError, match=message):
        token_operators(LLAMA_3_70B, 1, precision=BF16, tp=tp)


def test_sizes_that_divide() -> None:
    assert tensor_parallel_sizes(LLAMA_3_70B) == (1, 2, 4, 8, 16, 32, 64)
    assert tensor_parallel_sizes(load_spec("qwen2.5-7b"), 8) == (1, 2, 4)
    assert tensor_parallel_sizes(load_spec("gpt2-xl"), 8) == (1, 5)


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2-xl", "opt-13b", "qwen3-14b", "qwen3-30b-a3b"])
def test_one_rank_holds_every_parameter(name: str) -> None:
    spec = load_spec(name)
    padding = (-spec.vocab_size % 64) * spec.hidden_size * (1 if spec.head.tied else 2)
    whole = 2 * (spec.parameters() + padding)
    assert rank_weight_bytes(spec, precision=BF16) == whole
    quantized = rank_weight_bytes(spec, precision=precision(quantization="fp8"))
    mlp = sum(m.copies * len(m.outputs) for m in spec.layers[0].mlp.matrices if m.quantized)
    layer = 4 + mlp  # one fp32 scale per matrix
    assert quantized == whole - spec.linear_parameters() + 4 * layer * spec.num_layers


def test_a_rank_holds_its_share_and_the_repeated_weights() -> None:
    whole = rank_weight_bytes(LLAMA_3_70B, precision=BF16)
    norms = 2 * 161 * 8192
    assert rank_weight_bytes(LLAMA_3_70B, precision=BF16, tp=8) == (whole - norms) / 8 + norms


def test_quantized_weights_are_read_narrower_and_the_head_is_not() -> None:
    fp8 = precision(quantization="fp8")
    operators = step_operators(LLAMA_2_7B, 1, 10, [], precision=fp8)
    wide = step_operators(LLAMA_2_7B, 1, 10, [], precision=BF16)
    up, head = named(operators, "mlp_up"), named(operators, "lm_head")
    assert up.weight_bytes == 2 * 11008 * 4096 + 4
    assert head.weight_bytes == named(wide, "lm_head").weight_bytes
    assert (up.compute, head.compute, named(operators, "attention").compute) == (
        "fp8",
        "bf16",
        "bf16",
    )
    assert {op.compute for op in wide} == {"bf16"}


@pytest.mark.parametrize("name", ["llama-3-8b", "mistral-7b", "qwen1.5-moe-a2.7b", "gpt2-xl"])
@pytest.mark.parametrize("fused", [True, False])
def test_counts_broadcast_over_steps(name: str, fused: bool) -> None:
    spec, p = load_spec(name), BF16
    few, many = np.array([0, 1, 7, 300]), np.array([0, 900, 30_000, 5_000_000])

    def counts(a: Any, b: Any) -> list[Operator]:
        return [
            *token_operators(spec, a, precision=p),
            *sequence_operators(spec, a, precision=p),
            *decode_attention(spec, a, b, precision=p, fused=fused),
            *prefill_attention(spec, a, b, precision=p, fused=fused),
        ]

    columns = counts(few, many)
    for row in range(len(few)):
        for column, scalar in zip(columns, counts(int(few[row]), int(many[row])), strict=True):
            for field in ("flops", "bytes", "weight_bytes", "activation_bytes", "kv_bytes"):
                value = np.broadcast_to(getattr(column, field), few.shape)[row]
                assert value == pytest.approx(getattr(scalar, field), rel=1e-15)
                assert isinstance(getattr(scalar, field), float)


def test_nothing_to_do_costs_nothing() -> None:
    for spec in (LLAMA_2_7B, MIXTRAL, QWEN_MOE, load_spec("gpt2-xl")):
        operators = [
            *step(spec, 0),
            *decode_attention(spec, 0, 0, precision=BF16),
            *prefill_attention(spec, 0, 500, precision=BF16),
            *prefill_attention(spec, 0, 500, precision=BF16, fused=False),
        ]
        assert step_flops(operators) == step_bytes(operators) == 0


def test_norms_and_elementwise_of_one_layer() -> None:
    rows, h = 3, 4096
    operators = step(LLAMA_2_7B, rows)
    norm, residual = named(operators, "input_norm"), named(operators, "residual")
    assert (norm.flops, norm.bytes) == (4 * rows * h, 2 * (2 * rows * h + h))
    # Two additions, each reading two rows and writing one.
    assert (residual.flops, residual.bytes) == (2 * rows * h, 2 * 2 * 3 * rows * h)
    act = named(operators, "mlp_act")
    assert (act.flops, act.bytes) == (5 * rows * 11008, 2 * 3 * rows * 11008)
    rope = named(operators, "rope")
    assert (rope.flops, rope.bytes) == (3 * rows * 2 * h, 2 * 2 * rows * 2 * h)
    assert named(operators, "embedding").bytes == 2 * 2 * rows * h


def test_precision_names() -> None:
    assert precision() == Precision(2.0, 2.0, "bf16")
    assert precision("float32") == Precision(4.0, 4.0, "fp32")
    fp8 = precision("half", "fp8", "fp8")
    assert (fp8.activation_bytes, fp8.kv_bytes, fp8.compute) == (2.0, 1.0, "fp16")
    assert (fp8.main_compute, fp8.kv_numbers) == ("fp8", "fp8")
    assert precision("bfloat16", "int8").main_compute == "int8"
    assert precision("float16", "int4", "fp8_e5m2").main_compute == "fp16"
    assert precision(kv_cache_dtype="fp8_inc").kv_bytes == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bfloat61",), r"dtype = 'bfloat61': did you mean bfloat16\? Expected one of"),
        (
            ("float16", "fp16"),
            r"quantization = 'fp16': .*xpected one of fp8, ",
        ),
        (("float16", None, "int8"), "kv_cache_dtype = 'int8': expected one of auto"),
        (("float32", "fp8"), "quantization = 'fp8' with dtype = 'float32': expected dtype"),
    ],
)
def test_unknown_precisions(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        precision(*arguments)
