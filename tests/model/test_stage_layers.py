"""Layers of pipeline stages, as vLLM's get_pp_indices deals them."""

import pytest

from model.ops import rank_weight_bytes, stage_weight_bytes
from model.precision import precision
from model.quantization.weights import PLAIN
from model.spec import load_spec
from model.stages import handed_over, stage_layers, stages_of


@pytest.mark.parametrize(
    ("layers", "stages", "counts"),
    [
        (32, 4, (8, 8, 8, 8)),
        (61, 2, (31, 30)),
        (61, 4, (15, 15, 16, 15)),
        (126, 4, (31, 32, 32, 31)),
        (7, 3, (2, 3, 2)),
        (5, 3, (2, 2, 1)),
    ],
)
def test_what_is_left_over_goes_to_the_last_but_one_first(
    layers: int, stages: int, counts: tuple[int, ...]
) -> None:
    assert stage_layers(layers, stages) == counts


def test_counts_can_be_given() -> None:
    assert stage_layers(10, 2, (7, 3)) == (7, 3)
    with pytest.raises(ValueError, match="11 layers together, expected 10"):
        stage_layers(10, 2, (7, 4))
    with pytest.raises(ValueError, match="3 counts, expected one of each of 2 stages"):
        stage_layers(10, 2, (5, 3, 2))
    with pytest.raises(ValueError, match="11 stages of 10 layers"):
        stage_layers(10, 11)


def test_kinds_of_layers_stay_where_they_are() -> None:
    spec = load_spec("deepseek-v3")
    first, second = stages_of(spec, 2)
    assert [kind.count for kind in first.spec.layers] == [3, 28]  # dense ones first
    assert [kind.count for kind in second.spec.layers] == [30]
    assert second.spec.layers[0].places == tuple(range(31, 61))
    assert (first.embeds, first.predicts) == (True, False)
    assert (second.embeds, second.predicts) == (False, True)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.2-1b", "gpt2", "deepseek-v3"])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_the_stages_together_hold_the_model(name: str, stages: int) -> None:
    spec = load_spec(name)
    numbers = precision("bfloat16", PLAIN, "bfloat16")
    held = sum(
        stage_weight_bytes(stage, precision=numbers, tp=1) for stage in stages_of(spec, stages)
    )
    whole = rank_weight_bytes(spec, precision=numbers, tp=1)
    padded = -(-spec.vocab_size // 64) * 64
    twice = 2 * padded * spec.hidden_size if spec.head.tied and stages > 1 else 0
    assert held == whole + twice


def test_a_residual_goes_separately_where_norms_add_it() -> None:
    assert handed_over(load_spec("llama-3.1-8b")) == 2
    assert handed_over(load_spec("gpt2")) == 1
