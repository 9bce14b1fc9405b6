"""Prices from measured kernels: shares over the roofline, decode attention, chunks, all-reduces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware.calibration import Calibration, load_calibration
from hardware.calibration_file import save_calibration
from hardware.gpu import Gpu, load_gpu
from hardware.prices.kernels import WIDENING, Kernels, nearest
from hardware.prices.measured import Measured
from hardware.prices.mixer_kernels import DecodeKernel, MixerKernels
from hardware.prices.surface import Surface
from hardware.prices.waves import share_of_waves
from hardware.steps.cost import StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.alike import attention_of
from model.mlps.experts import ACTIVATES, ADDS_UP
from model.ops import token_operators
from model.precision import precision
from model.spec import load_spec

GPU = load_gpu("a100-80gb-sxm")
SPEC = load_spec("llama-3-8b")
PLAIN = precision()


def surface(axes: dict[str, tuple[float, ...]], values: list[float]) -> Surface:
    return Surface(axes=axes, values=tuple(values))


BATCH = {"sequences": (1.0, 1024.0), "kv_heads": (1.0, 8.0), "group": (1.0, 2.0)}
KERNELS = Kernels(
    gpu=GPU.name,
    source="a test",
    gemm={"bf16": surface({"m": (1.0,), "n": (256.0,), "k": (256.0,)}, [0.5])},
    prefill_attention={
        "bf16": surface({"rows": (64.0,), "positions": (8.0,), "group": (1.0,)}, [0.25])
    },
    decode_attention={
        "bf16": DecodeKernel(
            floor_s=surface(BATCH, [2e-5] * 8),
            base_s=surface(BATCH, [1e-5] * 8),
            bytes_share=surface(BATCH, [0.8] * 8),
        )
    },
    all_reduce=surface({"ranks": (2.0, 8.0), "bytes": (1e3, 1e6)}, [1e-5, 1e-4, 2e-5, 3e-4]),
    experts={"bf16": surface({"rows": (1.0,), "width": (256.0,), "experts": (8.0,)}, [0.4])},
)
MEASURED = Calibration(name="test", source="a test", kernels=KERNELS)


def price(tp: int = 1, model: str = "llama-3-8b") -> StepCost:
    return step_cost(StepSetup(
        spec=load_spec(model), gpu=GPU, tp=tp, precision=PLAIN, calibration=MEASURED,
        max_tokens=2048, max_seqs=64,
    ))  # fmt: skip


def test_a_matrix_product_takes_its_roofline_over_the_share() -> None:
    for operator in token_operators(SPEC, 16.0, precision=PLAIN):
        if operator.gemm is not None:
            bound = max(
                float(operator.flops) / GPU.peak("bf16"),
                float(operator.bytes) / GPU.bandwidth_bytes_per_s,
            )
            np.testing.assert_allclose(KERNELS.gemm_s(operator, GPU), bound / 0.5)


def test_experts_have_shares_of_their_own() -> None:
    spec = load_spec("mixtral-8x7b")
    (experts,) = [o for o in token_operators(spec, 64.0, precision=PLAIN) if o.name == "experts"]
    assert experts.groups == 8
    alone = KERNELS.gemm_s(replace(experts, groups=1), GPU)
    np.testing.assert_allclose(KERNELS.gemm_s(experts, GPU), alone * 0.5 / 0.4)


def test_decode_attention_is_a_line_above_a_floor() -> None:
    cost, layers = price(), SPEC.num_layers
    position_s = 2 * attention_of(SPEC).kv_size * 2 / (GPU.bandwidth_bytes_per_s * 0.8)

    def attention_s(context: int) -> float:
        fixed = cost.overhead_s + cost.token_s[4] + cost.sequence_s[4]
        return cost.step_s(4, context, ()) - fixed

    np.testing.assert_allclose(attention_s(4), layers * 2e-5)  # the floor
    np.testing.assert_allclose(attention_s(40_000), layers * (1e-5 + 40_000 * position_s))


def price_of(calibration: Calibration, sequences: int, gpu: Gpu = GPU) -> StepCost:
    setup = StepSetup(
        spec=load_spec("llama-3-8b"), gpu=gpu, precision=PLAIN, calibration=calibration,
        max_tokens=sequences, max_seqs=sequences,
    )  # fmt: skip
    return step_cost(setup)


def test_grouped_attention_can_be_slower_in_the_engine() -> None:
    slow = MEASURED.model_copy(update={"attention_decode_bytes": 0.5})
    for model, changes in (("llama-3-8b", True), ("llama-2-7b", False)):
        costs = [
            step_cost(
                StepSetup(
                    spec=load_spec(model),
                    gpu=GPU,
                    precision=PLAIN,
                    calibration=one,
                    max_tokens=8,
                    max_seqs=8,
                )
            ).step_s(8, 80_000, ())
            for one in (MEASURED, slow)
        ]
        assert (costs[1] > costs[0]) is changes


def test_the_last_wave_of_tiles_counts_for_less_the_more_there_are() -> None:
    """With 8 KV heads 33 sequences are two waves of an H100's 132 multiprocessors."""
    shares = share_of_waves(np.array([0, 1, 16, 33, 330]), 8, "h100-sxm", 0.8)
    two, twenty = 0.8 / 0.82 * 2 / (1 + 1 / 0.82), 0.8 / 0.82 * 20 / (19 + 1 / 0.82)
    np.testing.assert_allclose(shares, [0.8, 0.8, 0.8, two, twenty])
    np.testing.assert_allclose(share_of_waves(np.array([54]), 4, "a100-80gb-sxm", 0.8), two)


def test_a_large_batch_reads_its_cache_nearly_as_fast_as_tables_do() -> None:
    slow = MEASURED.model_copy(update={"attention_decode_bytes": 0.5})

    def reading_s(calibration: Calibration, sequences: int, gpu: Gpu = GPU) -> float:
        price = price_of(calibration, sequences, gpu)
        return price.step_s(sequences, 80_000_000, ()) - price.step_s(sequences, 40_000_000, ())

    waves = 128 * 8 / 108
    few, many = (reading_s(slow, n) / reading_s(MEASURED, n) for n in (8, 128))
    np.testing.assert_allclose(
        [few, many], [2.0, 2.0]
    )  # an error of the rate is one of all batches
    gain = reading_s(MEASURED, 8) / reading_s(MEASURED, 128)
    np.testing.assert_allclose(gain, waves / 0.82 / (waves + 1 / 0.82 - 1))
    of_tensorrt = load_gpu("b200-sxm")
    apart = reading_s(MEASURED, 8, of_tensorrt) / reading_s(MEASURED, 128, of_tensorrt)
    np.testing.assert_allclose(apart, 1.0)


def test_more_heads_than_measured_count_as_more_sequences() -> None:
    kernel = KERNELS.decode_attention["bf16"].model_copy(
        update={"base_s": surface(BATCH, [1e-6, 1e-6, 1e-6, 1e-6, 1e-3, 1e-3, 1e-3, 1e-3])}
    )
    four_times, _, _ = kernel.of_batches(np.array([64]), 32, 1.0), None, None
    as_many, _, _ = kernel.of_batches(np.array([256]), 8, 1.0), None, None
    np.testing.assert_allclose(four_times[1], as_many[1])


@pytest.mark.parametrize("pieces", [(1024,), (512, 512), (300, 724), (256,) * 4])
def test_a_prompt_costs_the_same_in_one_piece_or_many(pieces: tuple[int, ...]) -> None:
    chunks = price().chunk_cost
    past, total = 0, chunks.launch_s
    for piece in pieces:
        total += chunks.seconds(piece, past)
        past += piece
    np.testing.assert_allclose(total, chunks.seconds(1024, 0) + chunks.launch_s, rtol=1e-9)


def test_every_piece_reads_all_keys_before_it() -> None:
    chunks = price().chunk_cost
    many = sum(chunks.seconds(64, past) for past in range(0, 1024, 64))
    assert many > chunks.seconds(1024, 0)


def test_a_few_tokens_after_a_long_past_cost_a_tile_and_reading() -> None:
    chunks = price().chunk_cost
    assert chunks.seconds(1, 1000) == chunks.seconds(16, 1000) == chunks.seconds(64, 1000)
    read_s = (
        SPEC.num_layers * 2 * attention_of(SPEC).kv_size * 2 * 100_000 / GPU.bandwidth_bytes_per_s
    )
    assert chunks.seconds(1, 100_000) > read_s


def test_chunks_share_the_launch_with_decodes() -> None:
    cost = price()
    alone = cost.step_s(0, 0, [(64, 0)])
    chunk = cost.chunk_cost.seconds(64, 0) + cost.chunk_cost.launch_s
    np.testing.assert_allclose(
        alone, cost.overhead_s + cost.token_s[64] + cost.sequence_s[1] + chunk
    )


def test_all_reduces_beyond_the_largest_buffer_grow_with_it() -> None:
    np.testing.assert_allclose(KERNELS.all_reduce_s(np.array([0.0, 1e6, 4e6]), 2), [0, 1e-4, 4e-4])
    assert KERNELS.reduces(4)
    assert not KERNELS.reduces(16)


def test_more_ranks_wait_longer_for_the_slowest() -> None:
    def reduced_s(overhead_s: float, ranks: int) -> float:
        calibration = Calibration(
            name="c", source="made up", collective_overhead_s=overhead_s, kernels=KERNELS
        )
        prices = Measured(GPU, calibration, KERNELS, fused=True)
        return float(prices.all_reduce_s(np.array([1e4]), ranks)[0])

    waited = [reduced_s(2e-6, ranks) - reduced_s(0.0, ranks) for ranks in (2, 4)]
    np.testing.assert_allclose(waited, [2e-6, 4e-6])


def test_widening_stored_weights_costs_arithmetic() -> None:
    peak, cores = GPU.peak("bf16"), GPU.peak("fp32")
    (plain,) = (o for o in token_operators(SPEC, 4096.0, precision=PLAIN) if o.name == "mlp_down")
    int4 = precision(quantization="int4")
    (widened,) = (o for o in token_operators(SPEC, 4096.0, precision=int4) if o.name == "mlp_down")
    assert not plain.weight_only
    assert widened.weight_only
    slower = KERNELS.gemm_s(widened, GPU) / KERNELS.gemm_s(plain, GPU)
    assert slower == pytest.approx(1 + WIDENING * peak / cores)
    (few,) = (o for o in token_operators(SPEC, 1.0, precision=int4) if o.name == "mlp_down")
    (one,) = (o for o in token_operators(SPEC, 1.0, precision=PLAIN) if o.name == "mlp_down")
    assert KERNELS.gemm_s(few, GPU) / KERNELS.gemm_s(one, GPU) < 0.35  # a quarter of the bytes


def test_an_arithmetic_that_was_not_measured_takes_its_nearest() -> None:
    assert nearest({"bf16": 1, "fp8": 2}, "int8") == 2
    assert nearest({"bf16": 1}, "fp4") == 1


def test_calibrations_with_kernels_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "kernels.yaml"
    round_number = MEASURED.model_copy(update={"collective_overhead_s": 1e-6})
    save_calibration(round_number, path)
    assert load_calibration(path) == round_number


def test_latent_attention_has_kernels_of_its_own_and_makes_keys_of_the_past_again() -> None:
    spec = load_spec("deepseek-v2-lite").first_layers(2)
    heads = {"sequences": (1.0, 64.0), "kv_heads": (1.0,), "group": (1.0, 128.0)}
    prompts = {"rows": (64.0,), "positions": (8.0,), "heads": (1.0,)}
    latent = MixerKernels(
        decode={
            "bf16": DecodeKernel(
                floor_s=surface(heads, [4e-5] * 4),
                base_s=surface(heads, [3e-5] * 4),
                bytes_share=surface(heads, [0.6] * 4),
            )
        },
        prefill={"bf16": surface(prompts, [0.3])},
    )
    kernels = KERNELS.model_copy(update={"mixers": {"latent": latent}})
    cost = step_cost(
        StepSetup(
            spec=spec,
            gpu=GPU,
            precision=PLAIN,
            calibration=MEASURED.model_copy(update={"kernels": kernels}),
            max_tokens=2048,
            max_seqs=64,
        )
    )
    start, flat_s, slope_s = cost.decode_pieces[0][8][0]
    assert start > 0
    np.testing.assert_allclose(flat_s, 2 * 3e-5)
    np.testing.assert_allclose(slope_s, 2 * 1152 / (0.6 * GPU.bandwidth_bytes_per_s))
    # Of 2,048 earlier positions, 512 numbers through kv_b_proj to 16 heads of 256.
    whole, first = (cost.chunk_cost.seconds(length, 0) for length in (4096, 2048))
    later = cost.chunk_cost.seconds(2048, 2048)
    bound = 2 * 512 * 16 * 256 / GPU.peak("bf16")
    made_s = later - (whole - first)
    assert made_s == pytest.approx(2 * 2048 * bound / 0.5, rel=0.3)
    assert made_s > 2 * 2048 * bound


def test_what_tables_of_experts_time_is_not_priced_twice() -> None:
    """Their activation and their sum are in the table; other small kernels are not."""
    spec = load_spec("mixtral-8x7b")
    operators = token_operators(spec, 4096.0, precision=PLAIN)
    inside = [each for each in operators if each.name in (ACTIVATES, ADDS_UP)]
    assert len(inside) == 2
    prices = Measured(GPU, MEASURED, KERNELS, fused=True)
    without = prices.operators_s([o for o in operators if o not in inside], 0)
    assert prices.operators_s(operators, 0) == without
    bare = Measured(GPU, MEASURED, KERNELS.model_copy(update={"experts": {}}), fused=True)
    assert bare.operators_s(inside, 0) > 0


def test_steps_of_experts_beyond_the_largest_graph_wait_for_their_launches() -> None:
    """2 layers of 10 ms of host time each; a dense model has none, nor has a step in a graph."""
    slow = MEASURED.model_copy(update={"eager_experts_s": 0.01})

    def token_s(model: str, largest: int | None) -> list[float]:
        return step_cost(StepSetup(
            spec=load_spec(model).first_layers(2), gpu=GPU, precision=PLAIN, calibration=slow,
            max_tokens=2048, max_seqs=64, max_cudagraph_capture_size=largest,
        )).token_s  # fmt: skip

    usual, told = token_s("mixtral-8x7b", None), token_s("mixtral-8x7b", 1024)
    assert usual[128] < 0.02 == usual[129]  # twice the seats are captured
    assert told[1024] < 0.02 == told[1025]
    assert max(token_s("llama-3-8b", None)) < 0.02


def test_sparse_attention_reads_the_keys_of_its_index() -> None:
    """132 bytes of every earlier position; what it chooses takes the same however much there is."""
    spec = load_spec("glm-5").first_layers(2)
    heads = {"sequences": (1.0, 64.0), "kv_heads": (1.0,), "group": (1.0, 128.0)}
    prompts = {"rows": (64.0,), "positions": (8.0,), "heads": (1.0,)}
    sparse = MixerKernels(
        decode={
            "bf16": DecodeKernel(
                floor_s=surface(heads, [1e-4] * 4),
                base_s=surface(heads, [8e-5] * 4),
                bytes_share=surface(heads, [0.5] * 4),
            )
        },
        prefill={"bf16": surface(prompts, [0.2])},
    )
    kernels = KERNELS.model_copy(update={"mixers": {"sparse latent": sparse}})
    cost = step_cost(StepSetup(
        spec=spec, gpu=load_gpu("h100-sxm"), precision=PLAIN, max_tokens=2048, max_seqs=64,
        calibration=MEASURED.model_copy(update={"kernels": kernels}),
    ))  # fmt: skip
    chosen, scored = cost.windows.index(2048), cost.windows.index(None)
    assert [piece[1:] for piece in cost.decode_pieces[chosen][8]] == [(0.0, 0.0)]
    _, flat_s, slope_s = cost.decode_pieces[scored][8][0]
    np.testing.assert_allclose(flat_s, 2 * 8e-5)
    bandwidth = load_gpu("h100-sxm").bandwidth_bytes_per_s
    np.testing.assert_allclose(slope_s, 2 * 132 / (0.5 * bandwidth))
    later, first = (cost.step_s(0, [0, 0], [(2048, past)]) for past in (2048, 0))
    assert later > first
