"""Goldens of a100_bounds, roofline_basics and speculative_decoding_bound."""

import pytest
from table_rows import check, page_of, row

from experiments.texts.speculative import expected_speed_up, expected_tokens

GOLDENS = {"a100_bounds", "roofline_basics", "speculative_decoding_bound"}
BOUNDS, BASICS, DRAFTS = "a100_bounds", "roofline_basics", "speculative_decoding_bound"


def test_attention_on_an_a100() -> None:
    """Lecture notes on rooflines, tiling, fusion and KV caching: 84.87, memory-bound."""
    found = check(BOUNDS, "attention, standard", 84.87, 0.01)
    assert found.note.startswith("memory-bound")
    n, d = 16384, 256
    assert found.exact == pytest.approx(n * (4 * d + 3) / (8 * (n + d)))


def test_mlp_on_an_a100() -> None:
    """Lecture notes on rooflines, tiling, fusion and KV caching: 3236.6, compute-bound."""
    found = check(BOUNDS, "MLP", 3236.6, 0.1)
    assert found.note.startswith("compute-bound")
    assert found.exact == pytest.approx(3236.6, rel=1e-3)


def test_balance_of_an_a100() -> None:
    """Lecture notes on rooflines, tiling, fusion and KV caching: 153.0 FLOP/byte."""
    assert check(BOUNDS, "balance of a100-80gb-sxm", 153.0, 0.1).exact == 312e12 / 2.039e12


def test_tokens_per_read_of_the_weights() -> None:
    """Blog on weights, FLOPs and KV cache of large models: 208 = 312e12 / 1.5e12."""
    check(BOUNDS, "tokens per read of the weights before arithmetic binds", 208, 0)


def test_axpy() -> None:
    """Lecture notes on rooflines, tiling, fusion and KV caching: 1/12."""
    assert row(BASICS, "AXPY").printed == 1 / 12
    assert row(BASICS, "AXPY").text == pytest.approx(1 / 12)


def test_matrix_product() -> None:
    """Lecture notes on rooflines, tiling, fusion and KV caching: 2MNK / (MK + KN + MN)."""
    found = row(BASICS, "product, every matrix moved once")
    assert found.text == 2 * 4096**3 / (3 * 4096**2) / 2
    assert found.exact == found.text


@pytest.mark.parametrize(
    ("name", "flops", "numbers"),
    [
        ("one output per thread", 2 * 4096, 2 * 4096 + 1),
        ("one-dimensional tile, two outputs", 4 * 4096, 3 * 4096 + 2),
        ("two-dimensional tile, four outputs", 8 * 4096, 4 * 4096 + 4),
    ],
)
def test_tiles(name: str, flops: int, numbers: int) -> None:
    """Lecture notes on tiling: 2K/(2(2K+1)), 4K/(2(3K+2)), 8K/(2(4K+4))."""
    found = row(BASICS, f"product, {name}")
    assert found.text == flops / (2 * numbers)
    assert found.exact == pytest.approx(found.text, rel=1e-12)


def test_fusion_raises_intensity() -> None:
    """Lecture notes on fusion: unfused against fused."""
    unfused = row(BASICS, "three element-wise operators, unfused").exact
    fused = row(BASICS, "three element-wise operators, fused").exact
    assert unfused is not None
    assert fused == 3 * unfused
    standard = row(BASICS, "attention of a prompt, standard").exact
    flash = row(BASICS, "attention of a prompt, fused").exact
    assert standard is not None
    assert flash is not None
    assert flash > 3 * standard


def test_prefill_and_decode_lie_on_either_side_of_the_ridge() -> None:
    """Lecture notes on rooflines: prefill is bound by arithmetic, decode by memory."""
    prefill, decode = (row(BASICS, x).exact for x in ("prefill of 1024 tokens",
                                                      "decode of 1 request"))  # fmt: skip
    assert prefill is not None
    assert decode is not None
    assert decode < 2 < 153 < prefill


@pytest.mark.parametrize(
    ("quantity", "printed", "digits"),
    [
        ("read of the weights", 9.83, 0.01),
        ("other traffic", 0.14, 0.01),
        ("arithmetic", 0.065, 0.001),
        ("time per token, 4 per pass", 2.46, 0.01),
    ],
)
def test_parts_of_a_token(quantity: str, printed: float, digits: float) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 9.83, 0.14, 0.065 and 2.46 ms."""
    assert check(DRAFTS, quantity, printed, digits).exact is not None


def test_forgotten_read_of_the_cache() -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 0.14 ms leaves out 4 N D L bytes."""
    found = row(DRAFTS, "read of the KV cache")
    assert found.text == pytest.approx(307_200 * 4096 / 300e9 * 1e3)
    corrected = row(DRAFTS, "time per token, 4 drafts accepted, corrected")
    assert corrected.text == pytest.approx(9.8304 / 5)


@pytest.mark.parametrize(
    ("acceptance", "drafted", "printed"),
    [
        (0.6, 2, 1.96), (0.7, 3, 2.53), (0.8, 2, 2.44), (0.8, 5, 3.69), (0.9, 2, 2.71),
        (0.9, 10, 6.86),
    ],
)  # fmt: skip
def test_speed_up(acceptance: float, drafted: int, printed: float) -> None:
    """Leviathan et al. 2023, equation 1 and table 1."""
    check(DRAFTS, f"speed-up at acceptance {acceptance:g}, {drafted} drafted", printed, 0.0101)
    by_hand = sum(acceptance**power for power in range(drafted + 1))
    assert expected_tokens(acceptance, drafted) == pytest.approx(by_hand)


def test_a_draft_has_its_price() -> None:
    """Leviathan et al. 2023, theorem 3.8: one step of the target and g steps of the draft."""
    assert expected_tokens(1.0, 4) == 5
    assert expected_speed_up(0.0, 3, 0.1) == pytest.approx(1 / 1.3)
    curve = page_of(DRAFTS).curves["speed_up"]
    assert (curve["speed_up"] < curve["expected_tokens"]).all()
