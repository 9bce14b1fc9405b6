"""Work on caches of every kind of mixer, by formulas that are written out here."""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

from model import mixers
from model.attended import attended_by_chunk, attended_by_decodes
from model.mixers.attention import Attention
from model.mixers.beside import Beside
from model.mixers.block_sparse import BlockSparse
from model.mixers.compressed import ChosenEntries, CompressedAttention
from model.mixers.delta import DeltaRule
from model.mixers.expanded import ExpandedLatent
from model.mixers.index import Index
from model.mixers.latent import LatentAttention
from model.mixers.lightning import Lightning
from model.mixers.mamba import Mamba, Mamba2
from model.mixers.mixer import Mixer
from model.mixers.none import NoMixer
from model.mixers.short_conv import ShortConv
from model.operators import Operator
from model.precision import precision
from model.share import Share

BF16, FP8 = precision(), precision(kv_cache_dtype="fp8")
LATENT = LatentAttention(
    hidden_size=7168,
    num_heads=128,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
)
"""DeepSeek-V3's."""
INDEX = Index(hidden_size=7168, query_rank=1536, num_heads=64, head_dim=128, topk=2048)
SPARSE = replace(LATENT, index=INDEX)
DELTA = DeltaRule(
    hidden_size=2048,
    num_key_heads=16,
    num_value_heads=32,
    key_dim=128,
    value_dim=128,
    conv_kernel=4,
)
"""Qwen3-Next's."""
MAMBA2 = Mamba2(
    hidden_size=2688, num_heads=64, head_dim=64, groups=8, state_size=128, conv_kernel=4
)
HEADS = Attention(hidden_size=64, num_heads=8, num_kv_heads=2, head_dim=16)
COMPRESSED = CompressedAttention(
    hidden_size=4096,
    num_heads=64,
    head_dim=512,
    rope_head_dim=64,
    q_lora_rank=1024,
    output_groups=8,
    output_rank=1024,
    window=128,
    every=4,
    overlap=2,
    index=ChosenEntries(num_heads=64, head_dim=128, topk=512),
)
ALL: tuple[Mixer, ...] = (
    HEADS, replace(HEADS, gate=16, sinks=True, v_head_dim=8), LATENT, SPARSE,
    replace(SPARSE, index_shared=True), DELTA, replace(DELTA, decay_per_channel=True), MAMBA2,
    Mamba(hidden_size=64, channels=128, state_size=16, conv_kernel=4, step_rank=4),
    Lightning(hidden_size=64, num_heads=4, head_dim=16), ShortConv(hidden_size=64, conv_kernel=3),
    COMPRESSED, replace(COMPRESSED, every=128, index=None, overlap=1),
    replace(COMPRESSED, every=0, index=None, overlap=1), Beside(HEADS, MAMBA2),
    BlockSparse(heads=HEADS, index_heads=2, index_dim=8, block_tokens=16, blocks=4),
    ExpandedLatent(LATENT),
)  # fmt: skip


def test_every_mixer_is_tried() -> None:
    rooms = (import_module(f"model.mixers.{each.name}") for each in iter_modules(mixers.__path__))
    kinds = {
        kind
        for room in rooms
        for kind in vars(room).values()
        if isinstance(kind, type) and kind.__module__ == room.__name__ and "attention" in vars(kind)
    }
    assert kinds - {Mixer, NoMixer} == {type(mixer) for mixer in ALL}


def decoded(
    mixer: Mixer, context: int, sequences: int = 1, tp: int = 1, numbers: object = BF16
) -> dict[str, Operator]:
    attended = attended_by_decodes(mixer.caches, sequences, sequences * context)
    share = Share((0,), numbers, tp)
    return {one.name: one for one in mixer.attention(attended, share, fused=True, decode=True)}


def filled(mixer: Mixer, chunk: int, past: int = 0) -> dict[str, Operator]:
    attended = attended_by_chunk(mixer.caches, chunk, past)
    operators = mixer.attention(attended, Share((0,), BF16, 1), fused=True, decode=False)
    return {one.name: one for one in operators}


def test_expanded_latents_are_kept_and_read_as_heads() -> None:
    """MiniCPM3-4B: 2 x 40 heads x 96 numbers a position, where the latent has 288."""
    latent = LatentAttention(
        hidden_size=2560, num_heads=40, q_lora_rank=768, kv_lora_rank=256, qk_nope_head_dim=64,
        qk_rope_head_dim=32, v_head_dim=64,
    )  # fmt: skip
    whole = ExpandedLatent(latent)
    assert [cache.token_bytes(2) for cache in whole.caches] == [2 * 40 * 96 * 2]
    assert [cache.token_bytes(2, 4) for cache in whole.caches] == [2 * 10 * 96 * 2]
    assert [matrix.parameters for matrix in whole.matrices] == [
        matrix.parameters for matrix in latent.matrices
    ]
    assert not any(matrix.unpacked for matrix in whole.matrices)
    one = decoded(whole, 4096)["attention"]
    assert one.flops == 40 * 4096 * (4 * 96 + 3)
    assert one.bytes == 2 * (2 * 40 * 96 * (4096 + 1) + 40 * 2 * 96)
    assert decoded(whole, 4096, tp=4)["attention"].flops == one.flops / 4


@pytest.mark.parametrize("tp", [1, 8])
def test_absorbed_latents_are_read_once_on_every_rank(tp: int) -> None:
    """2 H L (576 + 512) FLOPs and 1,152 bytes a position, of which ranks save nothing."""
    one = decoded(LATENT, 4096, tp=tp)["attention"]
    heads = 128 // tp
    assert one.flops == heads * 4096 * (2 * 576 + 2 * 512 + 3)
    assert one.kv_bytes == (4096 + 1) * 576 * 2
    assert one.activation_bytes == heads * (576 + 512) * 2


def test_expanded_latents_are_made_again_for_every_chunk() -> None:
    """Queries and keys of 192, values of 128; each past position through a 512 x 32768 matrix."""
    whole, later = filled(LATENT, 1000)["attention"], filled(LATENT, 500, 500)["attention"]
    of_pair = 128 * (2 * 192 + 2 * 128 + 3)
    assert whole.flops == 1000 * 1001 / 2 * of_pair
    made = 2 * 500 * 512 * 128 * (128 + 128)
    assert later.flops == (500 * 500 + 500 * 501 / 2) * of_pair + made


def test_a_token_costs_as_much_through_the_latents_matrix_either_way() -> None:
    """What decoding absorbs is what prefill expands: one product of ``operators`` is both."""
    (product,) = [
        one for one in LATENT.operators(3.0, Share((0,), BF16, 1)) if one.name == "kv_b_proj"
    ]
    absorbed = 2 * 128 * (128 * 512 + 512 * 128)
    assert product.flops == 3 * absorbed


@pytest.mark.parametrize("context", [1000, 2048, 50_000])
def test_an_index_scores_all_positions_and_some_are_attended(context: int) -> None:
    found = decoded(SPARSE, context)
    read = min(context, 2048)
    assert found["attention"].flops == 128 * read * (2 * 576 + 2 * 512 + 3)
    assert found["attention"].kv_bytes == (read + 1) * 1152
    assert found["index"].flops == context * 64 * (2 * 128 + 3)
    assert found["index"].kv_bytes == (context + 1) * 132
    assert found["index"].compute == "fp8"
    assert decoded(SPARSE, context, numbers=FP8)["attention"].kv_bytes == (read + 1) * 656
    shared = decoded(replace(SPARSE, index_shared=True), context)
    assert list(shared) == ["attention"]
    assert shared["attention"].kv_bytes == found["attention"].kv_bytes


def test_the_delta_rule_costs_the_same_at_every_length() -> None:
    short, long = decoded(DELTA, 10)["delta_rule"], decoded(DELTA, 100_000)["delta_rule"]
    assert short == long
    state = 3 * 8192 * 2 + 32 * 128 * 128 * 2
    assert short.kv_bytes == 2 * state
    assert short.flops == 32 * 7 * 128 * 128
    assert decoded(DELTA, 10, sequences=5)["delta_rule"].kv_bytes == 5 * 2 * state
    split = decoded(DELTA, 10, tp=2)["delta_rule"]
    # Per rank, as a start-up log of vLLM has it: 548,864 bytes.
    assert split.kv_bytes == 2 * (3 * 4096 * 2 + 16 * 128 * 128 * 2) == 2 * 548_864


def test_a_prompt_is_scanned_in_linear_time() -> None:
    one, two = filled(DELTA, 1000)["delta_rule"], filled(DELTA, 2000, 5000)["delta_rule"]
    assert two.flops == 2 * one.flops
    assert two.kv_bytes == one.kv_bytes


def test_state_spaces_keep_their_state_in_the_dtype_that_is_asked_for() -> None:
    wide = replace(MAMBA2, state_number_bytes=4.0)
    conv, state = 3 * (4096 + 2 * 8 * 128), 64 * 64 * 128
    assert MAMBA2.caches[0].sequence_bytes(2) == 2 * (conv + state)
    assert wide.caches[0].sequence_bytes(2) == 2 * conv + 4 * state
    assert decoded(MAMBA2, 1)["ssm"].flops == 64 * 5 * 64 * 128


def test_compressed_entries_and_a_window_are_attended_together() -> None:
    found = decoded(COMPRESSED, 8000)
    each = 64 * (4 * 512 + 3)
    assert found["attention"].flops == 128 * each
    assert found["compressed"].flops == 512 * each + 2 * 512 * 5
    assert found["attention"].kv_bytes == (128 + 1) * 584
    assert found["compressed"].kv_bytes == (512 + 1 / 4) * 584
    assert found["index"].flops == 2000 * 64 * (2 * 128 + 3)


def test_blocks_of_positions_are_chosen_by_scores_of_all() -> None:
    sparse = BlockSparse(heads=HEADS, index_heads=2, index_dim=8, block_tokens=16, blocks=4)
    found = decoded(sparse, 1000)
    assert found["attention"] == decoded(HEADS, 64)["attention"]
    assert found["index"].flops == 1000 * 2 * (2 * 8 + 1)
    assert found["index"].kv_bytes == 1001 * 8 * 2


def test_two_mixers_side_by_side_have_counts_of_their_own() -> None:
    both = decoded(Beside(HEADS, MAMBA2), 500)
    assert both == decoded(HEADS, 500) | decoded(MAMBA2, 500)


def test_shared_caches_are_read_and_not_written() -> None:
    shared = replace(HEADS, shares_cache=True)
    assert decoded(shared, 100)["attention"].kv_bytes == 100 * 2 * 2 * 16 * 2
    assert decoded(HEADS, 100)["attention"].kv_bytes == 101 * 2 * 2 * 16 * 2
    assert shared.caches[0].token_bytes(2) == 0
    assert sum(matrix.parameters for matrix in shared.matrices) == 2 * 64 * 128


@pytest.mark.parametrize("mixer", ALL, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("decode", [True, False])
def test_work_is_linear_in_what_is_attended(mixer: Mixer, decode: bool) -> None:
    """Twice the batch is twice the work, and arrays give what numbers give."""
    share = Share((0, 1), BF16, 1)

    def work(times: object) -> list[Operator]:
        counts = attended_by_chunk(mixer.caches, 96, 32)
        scaled = replace(
            counts,
            sequences=counts.sequences * times,
            rows=counts.rows * times,
            pairs=tuple(each * times for each in counts.pairs),
            entries=tuple(each * times for each in counts.entries),
        )
        return mixer.attention(scaled, share, fused=True, decode=decode)

    for one, two, many in zip(work(1.0), work(2.0), work(np.array([1.0, 2.0])), strict=True):
        assert (two.flops, two.bytes) == pytest.approx((2 * one.flops, 2 * one.bytes))
        np.testing.assert_allclose(many.bytes, [one.bytes, two.bytes])
        assert one.flops > 0
        assert one.layers == 2


@pytest.mark.parametrize("mixer", ALL, ids=lambda mixer: type(mixer).__name__)
def test_ranks_share_a_mixers_matrices(mixer: Mixer) -> None:
    """Two ranks hold at least half of every matrix, and together no less than one."""
    for matrix in mixer.matrices:
        halves = matrix.inputs.on_rank(2) * sum(part.on_rank(2) for part in matrix.outputs)
        assert matrix.parameters <= 2 * halves <= 2 * matrix.parameters
    one, two = (mixer.operators(8.0, Share((0,), BF16, tp)) for tp in (1, 2))
    for whole, half in zip(one, two, strict=True):
        assert whole.name == half.name
        assert half.flops <= whole.flops <= 2 * half.flops
