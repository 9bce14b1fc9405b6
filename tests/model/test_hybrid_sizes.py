"""Published models whose layers keep different things: parameters, and bytes of what is cached."""

import pytest

from model.mixers.recurrent import CONV, RECURRENT
from model.spec import load_spec

SIZES = {
    # Parameters and those that a token passes through: transformers 5.23 on the meta device.
    # Bytes of a token at 16 bits by kind of cache, inside its window; bytes of a sequence's states.
    "deepseek-v2-lite": (15_706_484_224, 2_661_150_208, {"latent": 31104}, 0),
    "deepseek-v3": (671_026_404_352, 37_552_282_624, {"latent": 70272}, 0),
    "deepseek-v3.2": (671_877_929_216, 38_403_807_488, {"latent": 70272, "index": 15616}, 0),
    "deepseek-v4-flash": (
        284_332_230_231,
        13_799_622_231,
        {"window": 44032, "compressed": 5536, "index": 1344},
        0,
    ),
    "kimi-k2": (1_026_408_209_408, 32_861_477_888, {"latent": 70272}, 0),
    "glm-5": (743_911_199_232, 41_784_709_632, {"latent": 89856, "index": 19968}, 0),
    "glm-5.2": (743_377_000_704, 41_250_511_104, {"latent": 89856, "index": 5376}, 0),
    "gpt-oss-120b": (116_829_156_672, 5_711_982_912, {"window": 36864, "heads": 36864}, 0),
    "qwen3-next-80b-a3b": (79_674_391_296, 3_874_929_408, {"heads": 24576}, 39_518_208),
    "qwen3.5-397b-a17b": (396_346_350_336, 17_349_040_896, {"heads": 30720}, 192_061_440),
    "qwen3.6-27b": (26_895_998_464, 26_895_998_464, {"heads": 65536}, 153_944_064),
    "minimax-m3": (426_174_565_632, 25_962_466_560, {"heads": 122880, "index": 14592}, 0),
    "nemotron-3-nano-30b-a3b": (31_577_937_344, 3_580_073_408, {"heads": 6144}, 49_082_368),
    "nemotron-3-ultra-550b-a55b": (549_308_968_960, 56_058_818_560, {"heads": 12288}, 407_961_600),
    "gemma-2-27b": (27_227_128_320, 27_227_128_320, {"window": 188416, "heads": 188416}, 0),
    "gemma-3-27b": (27_009_346_304, 27_009_346_304, {"window": 425984, "heads": 81920}, 0),
    "gemma-4-26b-a4b": (25_233_141_760, 3_822_530_560, {"window": 204800, "heads": 20480}, 0),
    "gemma-4-31b": (30_697_345_280, 30_697_345_280, {"window": 819200, "heads": 81920}, 0),
    "ling-3.0-flash": (124_414_191_072, 5_505_672_672, {"latent": 8064}, 75_980_800),
    "jamba-v0.1": (51_570_323_328, 12_110_311_296, {"heads": 16384}, 8_716_288),
    "bamba-9b": (9_780_235_392, 9_780_235_392, {"heads": 12288}, 62_287_360),
    "falcon-h1-7b": (7_585_513_568, 7_585_513_568, {"heads": 45056}, 70_152_192),
    "lfm2.5-vl-1.6b": (1_170_340_608, 1_170_340_608, {"heads": 12288}, 81_920),
    "command-a-111b": (111_057_580_032, 111_057_580_032, {"window": 196608, "heads": 65536}, 0),
    "olmo-3.1-32b": (32_233_522_176, 32_233_522_176, {"window": 196608, "heads": 65536}, 0),
    "exaone-4.0-32b": (32_003_216_384, 32_003_216_384, {"window": 196608, "heads": 65536}, 0),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_caches_of_published_models(name: str) -> None:
    parameters, active, cached, states = SIZES[name]
    spec = load_spec(name)
    assert (spec.parameters(), spec.active_parameters()) == (parameters, active)
    found: dict[str, float] = {}
    for cache, layers in spec.caches.items():
        kind = "window" if cache.window else cache.kind
        numbers = layers * cache.entry_numbers() / cache.every
        found[kind] = found.get(kind, 0) + 2 * numbers
    assert {kind: bytes_ for kind, bytes_ in found.items() if bytes_} == cached
    assert spec.state_bytes_per_sequence(2) == states


def test_states_are_convolutions_and_recurrences() -> None:
    """Qwen3-Next: 36 layers of 3 inputs of 8,192 channels, and 32 heads of 128 x 128."""
    spec = load_spec("qwen3-next-80b-a3b")
    numbers = {
        state.name: layers * state.numbers()
        for cache, layers in spec.caches.items()
        for state in cache.states
    }
    assert numbers == {CONV: 36 * 3 * 8192, RECURRENT: 36 * 32 * 128 * 128}
