"""What a hit costs in each tier, beside a measurement of one request alone."""

from experiments.validation.tier_hits import MEASURED, ttft_s

TOKENS = 65_536


def test_tiers_cost_what_they_did_where_it_was_measured_within_a_factor_of_1_6() -> None:
    """Beyond a hit on the GPU, which takes longer there: they had no CUDA graphs."""
    found = {tier: ttft_s(tier, TOKENS) for tier in MEASURED}
    assert found["GPU"] < found["host"] < found["store"] < found["computed"]
    for tier in ("host", "store", "computed"):
        measured_s = MEASURED[tier][TOKENS] - MEASURED["GPU"][TOKENS]
        assert 1 / 1.6 < (found[tier] - found["GPU"]) / measured_s < 1.6, tier
