"""Layers of several kinds on one group: prices are sums over kinds, whoever gives them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from hardware.calibration import DATASHEET, Calibration
from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from hardware.group import Group
from hardware.prices.choose import prices_of
from hardware.prices.lookup import unmeasured_note
from hardware.prices.measured import Measured
from hardware.prices.modelled import Roofline
from hardware.steps.cost import StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.alike import attention_of, dense_of
from model.mixers.attention import Attention
from model.mixers.mixer import Kernel
from model.mlps.experts import Experts
from model.precision import precision
from model.shape import DecoderSpec, grouped
from model.spec import load_spec

GPU = load_gpu("h100")
LLAMA = load_spec("llama-3-8b").first_layers(4)
NARROW = replace(attention_of(LLAMA), num_kv_heads=2)
MIXTURE = Experts(hidden_size=4096, num_experts=8, per_token=2, width=4096)
CALIBRATIONS = [DATASHEET, engine_calibration("vllm", GPU)]


def of_layers(*mixers: Attention) -> DecoderSpec:
    norm = LLAMA.layers[0].norm
    return replace(LLAMA, layers=grouped([(mixer, dense_of(LLAMA)) for mixer in mixers], norm))


def cost(spec: DecoderSpec, calibration: Calibration, **changes: object) -> StepCost:
    settings = {"precision": precision(), "max_tokens": 600, "max_seqs": 64} | changes
    return step_cost(StepSetup(spec=spec, gpu=GPU, calibration=calibration, **settings))


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("fused", [True, False])
def test_attention_of_two_kinds_is_the_sum_of_both(calibration: Calibration, fused: bool) -> None:
    wide = attention_of(LLAMA)
    both = cost(of_layers(wide, NARROW, wide), calibration, fused=fused)
    parts = [
        cost(of_layers(*mixers), calibration, fused=fused) for mixers in ((wide, wide), (NARROW,))
    ]

    def decoding_s(price: StepCost, sequences: int, positions: int) -> float:
        pieces = price.decode_pieces[0][sequences]
        _, flat_s, slope_s = next(piece for piece in pieces if positions >= piece[0])
        return flat_s + slope_s * positions

    for sequences, positions in ((1, 1), (8, 500), (8, 40_000), (64, 10**6)):
        apart = sum(decoding_s(part, sequences, positions) for part in parts)
        assert decoding_s(both, sequences, positions) == pytest.approx(apart, rel=1e-12)
    once = calibration.chunk_overhead_s
    for chunk, past in ((1, 0), (512, 0), (100, 5000)):
        apart = sum(part.chunk_cost.seconds(chunk, past) - once for part in parts)
        assert both.chunk_cost.seconds(chunk, past) == pytest.approx(apart + once, rel=1e-9)
    launches = sum(part.chunk_cost.launch_s for part in parts)
    assert both.chunk_cost.launch_s == pytest.approx(launches)
    per_pair = sum(part.attention_work[0].decode_flops.per_pair for part in parts)
    assert both.attention_work[0].decode_flops.per_pair == per_pair


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda each: each.name)
def test_dense_layers_between_sparse_ones_cost_what_they_cost_alone(
    calibration: Calibration,
) -> None:
    """Each more layer of a kind adds the same to every step, whatever stands beside it.

    But for a few microseconds: what launches hide of the traffic of small kernels is counted over
    all layers, and experts have less of it between their products than dense layers.
    """
    kind, replayed = LLAMA.layers[0], calibration.model_copy(update={"eager_experts_s": 0.0})
    dense, sparse = (kind.mixer, kind.mlp), (kind.mixer, MIXTURE)

    def token_s(*each: object) -> np.ndarray:
        spec = replace(LLAMA, layers=grouped(each, kind.norm))
        price = cost(spec, replayed, tp=2)
        return np.array(price.token_s[1:]) + price.overhead_s

    added = token_s(dense, sparse, dense) - token_s(sparse, dense)
    alone = token_s(dense, dense) - token_s(dense)
    np.testing.assert_allclose(added, alone, rtol=0, atol=3e-6)
    more = token_s(dense, sparse, sparse) - token_s(dense, sparse)
    np.testing.assert_allclose(more, token_s(sparse, sparse) - token_s(sparse), rtol=0, atol=3e-6)
    assert more[-1] > 1.05 * added[-1]


def test_a_calibration_decides_whose_prices_count() -> None:
    assert isinstance(prices_of(GPU, DATASHEET, fused=True), Roofline)
    assert isinstance(prices_of(GPU, CALIBRATIONS[1], fused=True), Measured)


@dataclass(frozen=True, kw_only=True)
class Odd(Attention):
    """Attention that nobody measured."""

    def kernel(self, tp: int) -> Kernel:
        return replace(super().kernel(tp), kind="odd")


ODD = Odd(hidden_size=4096, num_heads=32, num_kv_heads=8, head_dim=128)


def test_a_kernel_that_no_table_has_is_priced_like_the_nearest_attention() -> None:
    """Shares of the tables, amounts of its own: never below the roofline, nor far from its kin."""
    bare, kin = (
        cost(of_layers(ODD), DATASHEET),
        cost(of_layers(attention_of(LLAMA)), CALIBRATIONS[1]),
    )
    odd = cost(of_layers(ODD), CALIBRATIONS[1])

    def decoding_s(price: StepCost, sequences: int, positions: int) -> float:
        pieces = price.decode_pieces[0][sequences]
        _, flat_s, slope_s = next(piece for piece in pieces if positions >= piece[0])
        return flat_s + slope_s * positions

    for sequences, positions in ((1, 1), (8, 500), (8, 40_000), (64, 10**6)):
        seconds = decoding_s(odd, sequences, positions)
        assert seconds > decoding_s(bare, sequences, positions)
        assert seconds == pytest.approx(decoding_s(kin, sequences, positions), rel=0.25)
    launch_s = odd.chunk_cost.launch_s
    assert launch_s == pytest.approx(kin.chunk_cost.launch_s)
    for chunk, past in ((16, 0), (512, 0), (2048, 0), (8192, 0), (2048, 6000), (2048, 60_000)):
        seconds = odd.chunk_cost.seconds(chunk, past) + launch_s
        assert seconds > bare.chunk_cost.seconds(chunk, past)
        like_s = kin.chunk_cost.seconds(chunk, past) + launch_s
        assert seconds == pytest.approx(like_s, rel=0.25)


def test_what_was_not_measured_is_told() -> None:
    mixed = of_layers(attention_of(LLAMA), ODD, ODD)
    assert unmeasured_note(mixed, CALIBRATIONS[1]) == (
        "no measured kernels of odd (2 of 3 layers): priced by the roofline at what attention "
        "kernels reach"
    )
    assert unmeasured_note(mixed, DATASHEET) == unmeasured_note(LLAMA, CALIBRATIONS[1]) == ""


@pytest.mark.parametrize("model", ["deepseek-v2-lite", "qwen3-next-80b-a3b", "jamba-v0.1"])
def test_latents_and_states_have_prices(model: str) -> None:
    """A latent's decoding grows with what it reads; a state's does not, and never costs nothing."""
    spec = load_spec(model)
    price = cost(spec, CALIBRATIONS[1], tp=2)
    short, long = (price.step_s(16, 16 * each, ()) for each in (100, 30_000))
    bare = cost(spec, DATASHEET, tp=2)
    assert long > short > bare.step_s(16, 1600, ())
    assert price.step_s(0, 0, [(512, 0)]) > bare.step_s(0, 0, [(512, 0)])
    state = next((kind.mixer for kind in spec.layers if kind.mixer.kernel(2).kind != "grouped"
                  and all(cache.read is None for cache in kind.mixer.caches)), None)  # fmt: skip
    if state is not None and state.caches:
        alone = cost(of_layers(state), CALIBRATIONS[1])
        assert alone.windows == (None,)
        assert alone.step_s(16, 16, ()) == alone.step_s(16, 10**6, ())
        assert alone.step_s(32, 32, ()) > alone.step_s(16, 16, ())


def test_a_group_refuses_what_does_not_divide() -> None:
    with pytest.raises(ValueError, match="tensor_parallel_size = 3 does not divide llama-3-8b"):
        Group(spec=LLAMA, gpu=GPU, tp=3, precision=precision())


def test_one_layer_hides_its_small_kernels_as_each_of_many_does() -> None:
    """The overhead of a layer counts once, not beside the traffic that it stands for."""
    calibration = CALIBRATIONS[1]
    one, two = (np.array(cost(LLAMA.first_layers(n), calibration).token_s[1:]) for n in (1, 2))
    three = np.array(cost(LLAMA.first_layers(3), calibration).token_s[1:])
    np.testing.assert_allclose(two - one, three - two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda each: each.name)
def test_a_norm_over_all_heads_is_shared_by_the_ranks(calibration: Calibration) -> None:
    """One all-reduce more a layer, of 8 bytes a token (MiniMax-M2); norms of a head need none."""
    heads = replace(attention_of(LLAMA), qk_norm=True)
    wide = replace(heads, qk_norm_numbers=heads.query_size + heads.kv_size)
    more, less = (cost(of_layers(mixer, mixer), calibration, tp=2) for mixer in (wide, heads))
    one = prices_of(GPU, calibration, fused=True).all_reduce_s(np.array([8.0, 64.0]), 2)
    added = np.array(more.token_s)[[1, 8]] - np.array(less.token_s)[[1, 8]]
    np.testing.assert_allclose(added, 2 * one, rtol=1e-6)
    alone = (cost(of_layers(mixer), calibration) for mixer in (wide, heads))
    np.testing.assert_array_equal(*(each.token_s for each in alone))
