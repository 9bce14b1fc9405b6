"""Prices of layers with a state, and of chunks that nobody measured: what more of them cost."""

from dataclasses import replace

import pytest

from hardware.calibration import DATASHEET
from hardware.engines.constants import best_calibration, engine_calibration
from hardware.gpu import load_gpu
from hardware.prices.lookup import doubtful_note, looked_up, unmeasured_note
from hardware.steps.cost import StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.mixers.beside import side_by_side
from model.mixers.delta import DeltaRule
from model.mixers.mamba import Mamba2
from model.mixers.mixer import Mixer
from model.precision import precision
from model.shape import DecoderSpec
from model.spec import load_spec

H100, L40S = load_gpu("h100-sxm"), load_gpu("l40s")
MAMBA = Mamba2(
    hidden_size=4096, num_heads=128, head_dim=64, groups=8, state_size=128, conv_kernel=4,
    state_number_bytes=4.0,
)  # fmt: skip
DELTA = DeltaRule(
    hidden_size=4096, num_key_heads=16, num_value_heads=64, key_dim=128, value_dim=128,
    conv_kernel=4, state_number_bytes=4.0,
)  # fmt: skip
SIZES = [*range(1, 130), *range(136, 1026, 8)]


def cost(spec: DecoderSpec, gpu: str = "h100-sxm", tp: int = 1) -> StepCost:
    card = load_gpu(gpu)
    calibration = engine_calibration(best_calibration("0.23", card, "bf16"), card)
    setup = StepSetup(
        spec=spec, gpu=card, tp=tp, precision=precision(), calibration=calibration,
        max_tokens=1100, max_seqs=256,
    )  # fmt: skip
    return step_cost(setup)


def of_layers(mixer: Mixer, gpu: str = "h100-sxm") -> StepCost:
    spec = load_spec("llama-3-8b").first_layers(4)
    (kind,) = spec.layers
    return cost(replace(spec, layers=(replace(kind, mixer=mixer),)), gpu)


def updates_s(mixer: Mixer, sequences: int, gpu: str = "h100-sxm") -> float:
    (_, flat_s, slope_s), *_ = of_layers(mixer, gpu).decode_pieces[0][sequences]
    assert slope_s == 0
    return flat_s


@pytest.mark.parametrize(
    ("model", "gpu", "tp"),
    [
        ("nemotron-nano-9b-v2", "h100-sxm", 1),
        ("falcon-h1-7b", "h100-sxm", 2),
        ("qwen3-next-80b-a3b", "a100-80gb-sxm", 1),
        ("kimi-linear-48b-a3b", "a100-80gb-sxm", 1),
        ("minimax-m3", "h100-sxm", 2),
        ("ling-2.6-flash", "h100-sxm", 2),
    ],
)
def test_larger_chunks_never_cost_less(model: str, gpu: str, tp: int) -> None:
    """Beyond half a percent, by which shares of matrix products are uneven."""
    price = cost(load_spec(model), gpu, tp)
    reads = [8000] * len(price.windows)
    for past in (0, 100, 1000, 20_000):
        highest = 0.0
        for tokens in SIZES:
            seconds = price.step_s(8, reads, [(tokens, past)])
            assert seconds > 0.995 * highest, (tokens, past)
            highest = max(highest, seconds)


def test_states_of_equal_size_take_as_long() -> None:
    """128 heads of 64 x 128 numbers are 64 of the table's."""
    for sequences in (1, 16, 200):
        assert updates_s(MAMBA, sequences) == pytest.approx(updates_s(DELTA, sequences), rel=1e-3)


def test_states_of_half_the_bytes_take_half_the_traffic() -> None:
    half = replace(DELTA, state_number_bytes=2.0)
    once, many = (updates_s(half, sequences) for sequences in (1, 200))
    assert once == updates_s(DELTA, 1)
    assert many - once == pytest.approx((updates_s(DELTA, 200) - once) / 2)


def test_states_come_from_memory_even_where_a_table_found_them_in_the_cache() -> None:
    for sequences in (1, 16, 200):
        moved = 4 * sequences * 2 * DELTA.caches[0].sequence_bytes(2.0, 1)
        assert updates_s(DELTA, sequences, "l40s") >= 0.999 * moved / L40S.bandwidth_bytes_per_s


def test_kernels_that_are_known_less_well_are_told() -> None:
    """Half of the delta rule's scans that were left out on H100 are more than 11% off."""
    h100, l40s = (engine_calibration("vllm", gpu) for gpu in (H100, L40S))
    told = "kernels that are known less well than others: prompts of delta layers to 11%"
    assert doubtful_note(load_spec("qwen3.5-397b-a17b"), h100, "bf16") == told
    assert doubtful_note(load_spec("qwen3.5-397b-a17b"), l40s, "bf16") == ""
    sparse = load_spec("deepseek-v3.2")
    assert doubtful_note(sparse, h100, "fp8").endswith("prompts of sparse latent layers to 11%")
    assert doubtful_note(sparse, h100, "bf16") == doubtful_note(sparse, DATASHEET, "fp8") == ""


def test_both_mixers_of_a_layer_are_looked_up() -> None:
    """Falcon-H1's attention has tables, its state is like the delta rule's."""
    spec = load_spec("falcon-h1-7b")
    (kind,) = spec.layers
    kernels = engine_calibration("vllm", H100).kernels
    assert kernels is not None
    found = [looked_up(mixer, kernels, 1, 2.0) for mixer in side_by_side(kind.mixer)]
    assert [each.kernel.kind for each in found if each] == ["grouped", "delta"]
    assert unmeasured_note(spec, engine_calibration("vllm", H100)) == (
        f"no measured kernels of mamba2 ({spec.num_layers} of {spec.num_layers} layers): priced "
        "by the roofline at what those of the delta rule reach"
    )
