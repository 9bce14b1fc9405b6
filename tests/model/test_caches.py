"""What caches keep, and what queries attend of them, against counting one by one."""

import pytest

from model.attended import attended_by_chunk, attended_by_decodes
from model.caches import COMPRESSED, HEADS, INDEX, LATENT, STATE, Cache, State
from model.matrices import Width, repeated

HEADS_8 = Cache(kind=HEADS, per_entry=Width(8, 2 * 128, copied=True))
LATENT_576 = Cache(kind=LATENT, per_entry=repeated(576), fp8_entry_bytes=656, most_read=2048)
KEYS = Cache(kind=INDEX, per_entry=repeated(128), fp8_entry_bytes=132, always_fp8=True)
FOURTH = Cache(kind=COMPRESSED, per_entry=repeated(512), every=4, most_read=2)
BEHIND = Cache(kind=HEADS, per_entry=repeated(4), window=3)


def test_ranks_divide_heads_and_copy_latents() -> None:
    assert [HEADS_8.entry_bytes(2, tp) for tp in (None, 1, 2, 8, 16)] == [
        4096,
        4096,
        2048,
        512,
        512,
    ]
    assert [LATENT_576.entry_bytes(2, tp) for tp in (None, 1, 8)] == [1152, 1152, 1152]


def test_fp8_entries_have_scales_where_the_cache_says_so() -> None:
    assert HEADS_8.entry_bytes(1) == 2048
    assert (LATENT_576.entry_bytes(2), LATENT_576.entry_bytes(1)) == (1152, 656)
    assert (KEYS.entry_bytes(2), KEYS.entry_bytes(1)) == (132, 132)
    assert FOURTH.token_bytes(2) == 512 * 2 / 4


def test_states_are_of_sequences() -> None:
    """A convolution over 64 channels, and 8 heads of 16 x 32 numbers in float32."""
    conv = State("conv", (Width(8, 8), Width(2, 4, copied=True)), times=3)
    recurrent = State("recurrent", (Width(8, 16 * 32),), number_bytes=4)
    cache = Cache(kind=STATE, states=(conv, recurrent))
    assert (conv.numbers(), conv.numbers(4)) == (3 * 72, 3 * 20)
    assert cache.sequence_bytes(2) == 2 * 3 * 72 + 4 * 8 * 16 * 32
    assert cache.sequence_bytes(2, 4) == 2 * 3 * 20 + 4 * 2 * 16 * 32
    assert cache.token_bytes(2) == cache.token_bytes(1, 8) == 0


@pytest.mark.parametrize(("chunk", "past"), [(1, 0), (1, 40), (7, 0), (5, 2), (9, 40)])
def test_a_chunk_attends_what_counting_says(chunk: int, past: int) -> None:
    found = attended_by_chunk((HEADS_8, BEHIND, LATENT_576), chunk, past)
    seen = [set(range(past + i + 1)) for i in range(chunk)]
    near = [{p for p in one if p > past + i - 3} for i, one in enumerate(seen)]
    assert (found.sequences, found.rows) == (1, chunk)
    assert found.pairs == tuple(sum(map(len, one)) for one in (seen, near, seen))
    assert found.entries == tuple(len(set.union(*one)) for one in (seen, near, seen))


def test_an_index_limits_what_a_query_attends() -> None:
    few = Cache(kind=LATENT, per_entry=repeated(4), most_read=5)
    found = attended_by_chunk((few,), 4, 10)
    assert (found.pairs, found.entries) == ((20,), (14,))
    assert attended_by_chunk((few,), 1, 99).entries == (5,)
    assert attended_by_decodes((few, KEYS), 2, 30).entries == (10, 30)
    assert attended_by_decodes((few, KEYS), 2, 6).pairs == (6, 6)


def test_compressed_entries_stand_for_several_tokens() -> None:
    found = attended_by_decodes((FOURTH, BEHIND), 2, 12)
    assert found.entries == (3, 6)
    assert attended_by_decodes((FOURTH,), 2, 400).entries == (4,)
    # 8 queries: the first 7 see (1 + ... + 7) / 4 entries, the last one 2 of them.
    assert attended_by_chunk((FOURTH,), 8, 0).pairs == (36 / 4,)


def test_standard_attention_computes_the_whole_rectangle() -> None:
    assert attended_by_chunk((HEADS_8,), 4, 6, fused=False).pairs == (40,)
    assert attended_by_chunk((HEADS_8,), 0, 6).sequences == 0
