"""Four routers of a published benchmark: their order, and how near the prediction comes."""

import pytest

from benchmarks.shared_prefix_routing import MEASURED, STAGES, predicted

FEW = (STAGES[0], STAGES[1], (6, 60))
"""The warm-up, the lowest rate, and half of the one at which the approximate index collapses."""


@pytest.fixture(scope="module")
def ttfts_s() -> dict[str, list[float]]:
    return {name: [stage.ttft_s for stage in predicted(name, 0, FEW)] for name in MEASURED}


def test_the_routers_come_in_their_order(ttfts_s: dict[str, list[float]]) -> None:
    """Precise, approximate, then those without a prefix; at the lowest rate these too."""
    for rate in range(2):
        precise, approximate, random, load = (ttfts_s[name][rate] for name in MEASURED)
        assert precise < approximate / 4
        assert approximate < min(random, load) / 1.4
    assert ttfts_s["random"][0] < ttfts_s["load"][0]


def test_at_the_lowest_rate_ttft_is_within_the_factor_that_the_page_states(
    ttfts_s: dict[str, list[float]],
) -> None:
    for name, factor in (("precise", 3.6), ("approximate", 2.7), ("random", 2.3), ("load", 2.3)):
        measured_s = MEASURED[name][0][0]
        assert measured_s / factor < ttfts_s[name][0] < measured_s
