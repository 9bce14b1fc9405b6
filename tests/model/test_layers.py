"""Models whose layers differ: every figure is the sum over their kinds."""

from dataclasses import replace

import pytest

from model.alike import attention_of, dense_of
from model.matrices import Matrix, Width, repeated
from model.mixers.none import NoMixer
from model.mlps.experts import Experts
from model.mlps.extended import Extended
from model.mlps.load import EVEN, ExpertLoad
from model.mlps.none import NoMlp
from model.ops import NORMS, rank_weight_bytes, step_operators, tensor_parallel_sizes
from model.precision import precision
from model.quantization.scheme import FP8_TENSOR
from model.quantization.weights import Weights, uniform
from model.shape import DecoderSpec, grouped
from tests.decoders import LLAMA_LIKE

BF16 = precision()
ATTENTION, MLP = LLAMA_LIKE.layers[0].mixer, LLAMA_LIKE.layers[0].mlp
NORM = LLAMA_LIKE.layers[0].norm
WINDOW = replace(attention_of(LLAMA_LIKE), sliding_window=8)
MIXTURE = Experts(hidden_size=32, num_experts=4, per_token=2, width=16)
EXPERT = 3 * 32 * 16


def model(*each: tuple[object, object]) -> DecoderSpec:
    return replace(LLAMA_LIKE, layers=grouped(each, NORM))


MIXED = model((ATTENTION, MLP), (ATTENTION, MIXTURE), (ATTENTION, MLP), (ATTENTION, MIXTURE))
"""Dense layers between those with experts."""


def test_equal_layers_are_grouped_where_they_first_stand() -> None:
    assert [kind.places for kind in MIXED.layers] == [(0, 2), (1, 3)]
    assert [kind.mlp.num_experts for kind in MIXED.in_order()] == [0, 4, 0, 4]
    assert MIXED.num_layers == 4
    assert MIXED.num_experts == 4
    cut = MIXED.first_layers(3)
    assert [kind.places for kind in cut.layers] == [(0, 2), (1,)]


def test_parameters_are_those_of_every_layer() -> None:
    attention = 32 * (4 * 8 + 2 * 2 * 8) + 4 * 8 * 32
    each = attention + 2 * 32
    mlps = 2 * 3 * 32 * 48 + 2 * (4 * EXPERT + 4 * 32)
    embeddings_and_norm = 2 * 61 * 32 + 32
    assert MIXED.parameters() == 4 * each + mlps + embeddings_and_norm
    assert MIXED.active_parameters() == MIXED.parameters() - 2 * 2 * EXPERT
    assert MIXED.linear_parameters() == 4 * attention + mlps - 2 * 4 * 32
    padding = 3 * 32  # 61 tokens to 64, in embedding and head
    assert rank_weight_bytes(MIXED, precision=BF16) == 2 * (MIXED.parameters() + 2 * padding)


def test_a_step_runs_every_layer_once() -> None:
    operators = step_operators(MIXED, 2, 20, [(5, 0)], precision=BF16)
    runs: dict[str, int] = {}
    for one in operators:
        runs[one.name] = runs.get(one.name, 0) + one.layers
    assert runs["qkv_proj"] == runs["input_norm"] == runs["residual"] == 4
    assert (runs["mlp_up"], runs["experts"], runs["router"]) == (2, 2, 2)
    assert runs["attention"] == 2 * 4  # decodes, and one chunk
    assert runs["embedding"] == runs["lm_head"] == 1


def test_quantization_of_some_layers_counts_where_they_stand() -> None:
    """fp8 in layers 0 and 1: one dense MLP of two, and one mixture of two."""
    some = ((FP8_TENSOR, (0, 1)), (None, (2, 3)))
    weights = Weights((("mlp_down", some), ("experts", some)), "fp8")
    numbers = precision(quantization=weights)
    saved = rank_weight_bytes(MIXED, precision=BF16) - rank_weight_bytes(MIXED, precision=numbers)
    scales = 4 * (1 + 4 * 3)
    assert saved == 32 * 48 + 4 * EXPERT - scales
    operators = step_operators(MIXED, 1, 1, [], precision=numbers)
    assert [(o.layers, o.compute) for o in operators if o.name == "experts"] == [
        (1, "fp8"), (1, "bf16"),
    ]  # fmt: skip


def test_all_matrices_of_layers_may_be_quantized_by_one_word() -> None:
    everything = uniform(FP8_TENSOR, "fp8", None)
    assert everything.of("a_new_matrix", (0, 1)) == ((FP8_TENSOR, 2),)
    assert everything.of("lm_head", (0,)) == ((None, 1),)


def test_windows_shorten_the_attention_of_their_layers_alone() -> None:
    spec = model((ATTENTION, MLP), (WINDOW, MLP), (WINDOW, MLP))
    flops = {
        one.layers: one.flops
        for one in step_operators(spec, 1, 100, [], precision=BF16)
        if one.name == "attention"
    }
    assert flops == {1: 4 * 100 * (4 * 8 + 3), 2: 4 * 8 * (4 * 8 + 3)}
    assert spec.kv_bytes_per_token(2) == 3 * 2 * 2 * 8 * 2
    assert {cache.window: layers for cache, layers in spec.caches.items()} == {None: 1, 8: 2}
    with pytest.raises(ValueError, match="tiny-llama: layers that attend differently"):
        _ = spec.sliding_window
    with pytest.raises(ValueError, match="tiny-llama: expected the same attention"):
        attention_of(spec)
    with pytest.raises(ValueError, match="tiny-llama: expected the same dense MLP"):
        dense_of(MIXED)


def test_layers_may_lack_a_mixer_or_an_mlp() -> None:
    """Pruned models: what is not there has no norm, no residual addition, no cache."""
    spec = model((ATTENTION, NoMlp()), (NoMixer(), MLP), (ATTENTION, MLP))
    attention = 32 * (4 * 8 + 2 * 2 * 8) + 4 * 8 * 32
    once = 2 * 61 * 32 + 32
    assert spec.parameters() == 2 * attention + 2 * 3 * 32 * 48 + 4 * 32 + once
    assert spec.kv_bytes_per_token(2) == 2 * 2 * 2 * 8 * 2
    assert spec.sliding_window is None
    operators = step_operators(spec, 1, 7, [], precision=BF16)
    runs = {name: sum(o.layers for o in operators if o.name == name) for name in NORMS}
    assert runs == {
        "input_norm": 3, "post_norm": 1, "mixer_output_norm": 0, "mlp_output_norm": 0,
    }  # fmt: skip
    added = [(o.layers, o.flops) for o in operators if o.name == "residual"]
    assert added == [(1, 32), (1, 32), (1, 64)]
    assert tensor_parallel_sizes(spec) == (1, 2, 4)
    with pytest.raises(ValueError, match=r"\(4 attention heads, 2 KV heads, MLP width 48\)"):
        rank_weight_bytes(spec, precision=BF16, tp=3)


def test_a_layer_may_have_one_norm_or_four() -> None:
    each = [(ATTENTION, MLP)] * 2
    plain = model(*each)
    for norms in (1, 4):
        spec = replace(plain, layers=grouped(each, NORM, norms))
        assert spec.parameters() == plain.parameters() + 2 * (norms - 2) * 32
        names = [o.name for o in step_operators(spec, 1, 7, [], precision=BF16)]
        assert [name for name in names if name in NORMS] == list(NORMS[:norms])
        assert spec.first_layers(1).layers[0].norms == norms


def test_experts_are_changed_wherever_they_stand() -> None:
    """Alone, and inside what else a layer has."""
    wrapped = Extended(mlp=MIXTURE, more_vectors=3)
    spec = model((ATTENTION, MLP), (ATTENTION, MIXTURE), (ATTENTION, wrapped))
    law = ExpertLoad(1.2)
    dense, alone, inside = (kind.mlp for kind in spec.with_expert_load(law).in_order())
    assert (dense, alone) == (MLP, replace(MIXTURE, load=law))
    assert inside == replace(wrapped, mlp=alone)
    whole = [kind.mlp for kind in spec.with_whole_experts(2).in_order()]
    assert whole[1:] == [replace(MIXTURE, ranks=2), Extended(mlp=whole[1], more_vectors=3)]
    assert model((ATTENTION, MLP)).with_expert_load(EVEN) == model((ATTENTION, MLP))
    with pytest.raises(ValueError, match=r"load_exponent = 1\.2 with tiny-llama, which has no"):
        model((ATTENTION, MLP)).with_expert_load(law)


def test_ranks_divide_what_a_matrix_lets_them_divide() -> None:
    matrix = Matrix("qkv", (Width(8, 16), Width(2, 16, copied=True)), repeated(64), bias=True)
    assert matrix.parameters == 64 * 160
    assert [matrix.bias_numbers(tp) for tp in (1, 2, 4)] == [160, 80, 48]
    assert [all(side.divides(tp) for side in matrix.sides) for tp in (2, 3, 4, 8, 16)] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert tensor_parallel_sizes(MIXED) == (1, 2, 4)
