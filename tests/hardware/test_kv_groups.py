"""Groups of the KV cache are vLLM's: against figures that servers logged, and its own rules."""

from dataclasses import dataclass, replace

import pytest

from hardware.gpu import load_gpu
from hardware.memory.kv_blocks import MemoryDemand, memory_ledger
from hardware.memory.kv_compressed import _least_filled
from hardware.memory.kv_groups import kv_layout
from hardware.memory.kv_layout import KvGroup, KvLayout
from model.alike import dense_of
from model.caches import LATENT, STATE, Cache, State
from model.errors import UnsupportedLayersError
from model.matrices import Width, repeated
from model.mixers.attention import Attention
from model.precision import precision
from model.shape import DecoderSpec, grouped
from model.spec import load_spec

LLAMA = load_spec("llama-3-8b")
BF16 = precision()
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Keeps(Attention):
    """Attention that keeps something else."""

    kept: tuple[Cache, ...] = ()

    @property
    def caches(self) -> tuple[Cache, ...]:
        return self.kept


def heads(kv_heads: int, head_dim: int, window: int | None = None) -> Attention:
    return Attention(
        hidden_size=4096, num_heads=32, num_kv_heads=kv_heads, head_dim=head_dim,
        sliding_window=window,
    )  # fmt: skip


def keeps(*caches: Cache) -> Attention:
    return Keeps(hidden_size=4096, num_heads=32, num_kv_heads=8, head_dim=128, kept=caches)


def delta_net(conv: tuple[int, int, int], value_heads: int, recurrent_bytes: float) -> Attention:
    """A gated delta net: rows of its convolution for three widths, a matrix for every head."""
    channels = tuple(Width(heads, 128) for heads in conv)
    return keeps(
        Cache(
            kind=STATE,
            states=(
                State("conv", channels, times=3),
                State("recurrent", (Width(value_heads, 128),), 128, number_bytes=recurrent_bytes),
            ),
        )
    )


def model(*mixers: Attention) -> DecoderSpec:
    """A decoder with these mixers, one layer each."""
    each = [(mixer, dense_of(LLAMA)) for mixer in mixers]
    return replace(LLAMA, layers=grouped(each, LLAMA.layers[0].norm))


def layout(spec: DecoderSpec, **changes: object) -> KvLayout:
    return kv_layout(spec, precision=BF16, **changes)


GPT_OSS_120B = model(*[heads(8, 64, 128), heads(8, 64)] * 18)
GEMMA_3_27B = model(
    *[*[heads(16, 128, 1024)] * 5, heads(16, 128)] * 10, *[heads(16, 128, 1024)] * 2
)
GEMMA_4_31B = model(*[*[heads(16, 256, 1024)] * 5, heads(4, 512)] * 10)
QWEN3_NEXT = model(*[*[delta_net((16, 16, 32), 32, 2)] * 3, heads(2, 256)] * 12)
QWEN35_4B = model(*[*[delta_net((16, 16, 32), 32, 4)] * 3, heads(4, 256)] * 8)


def test_layers_alike_are_one_group() -> None:
    one = layout(LLAMA)
    assert [(each.layers, each.block_tokens) for each in one.groups] == [(32, 16)]
    assert one.block_bytes == 32 * 16 * 2 * 8 * 128 * 2
    assert one.most_blocks(8192, 2048) == 512
    uneven = layout(model(heads(8, 128), heads(4, 128), heads(8, 64)))
    assert (len(uneven.groups), uneven.block_bytes) == (1, 16 * 2 * 2 * (1024 + 512 + 512))


def test_half_of_the_layers_of_gpt_oss_have_a_window() -> None:
    cut = layout(GPT_OSS_120B, tp=2)
    assert [(each.layers, each.window, each.block_tokens) for each in cut.groups] == [
        (18, 128, 16), (18, None, 16),
    ]  # fmt: skip
    assert cut.block_bytes == 18 * 16 * 2 * 4 * 64 * 2
    # 127 tokens of the window, a step of 8,192, and one block more where it begins within one.
    assert cut.most_blocks(131_072, 8192) == 131_072 // 16 + (-(-8319 // 16) + 1)


def test_groups_are_as_large_as_the_rarest_kind() -> None:
    gemma = layout(GEMMA_3_27B)
    assert [each.layers for each in gemma.groups] == [9, 9, 9, 9, 8, 8, 10]
    assert gemma.block_bytes == 10 * 16 * 2 * 16 * 128 * 2
    # Or as the commonest, where the two hardly differ: 12 and 13 layers make two groups of 13.
    near = model(*[heads(8, 64, 128), heads(8, 64)] * 12, heads(8, 64))
    newest, older, oldest = (layout(near, version=at) for at in ("0.31", "0.15", "0.11"))
    assert [each.layers for each in newest.groups] == [12, 13]
    assert newest.block_bytes == older.block_bytes == 13 * 16 * 2 * 8 * 64 * 2
    assert [each.layers for each in oldest.groups] == [12, 7, 6]
    wider = model(*[heads(8, 64, 128)] * 5, *[heads(8, 64)] * 7)
    assert [each.layers for each in layout(wider, version="0.18").groups] == [5, 7]
    assert [each.layers for each in layout(wider, version="0.17").groups] == [5, 4, 3]


def test_blocks_of_smaller_pages_hold_more_tokens() -> None:
    """Gemma 4: 4 heads of 512 beside 16 heads of 256."""
    gemma = layout(GEMMA_4_31B)
    assert [(each.layers, each.block_tokens) for each in gemma.groups] == [(10, 16)] * 5 + [
        (10, 32)
    ]
    assert gemma.block_bytes == 10 * 262_144
    odd = layout(model(heads(3, 128, 64), heads(4, 128)))
    assert [each.block_tokens for each in odd.groups] == [16, 16]
    assert odd.block_bytes == 16 * 2 * 4 * 128 * 2  # padded


@pytest.mark.parametrize(
    ("spec", "tp", "kv_gib", "length", "version", "block", "blocks", "tokens"),
    [
        # vLLM 0.10.2, two H200 (Qwen3-Next-80B-A3B): blocks of 544 tokens, 973,760 tokens.
        (QWEN3_NEXT, 2, 44.59, 262_144, "0.10.2", 544, 7162, 973_760),
        # vLLM 0.22.0 (Qwen3.5-4B): blocks of 528 tokens, 137.80x of 1,024 tokens, 141,107 tokens.
        (QWEN35_4B, 1, 11.11, 1024, "0.22.0", 528, 689, 141_107),
    ],
)
def test_blocks_grow_until_they_hold_a_state(
    spec: DecoderSpec, tp: int, kv_gib: float, length: int, version: str,
    block: int, blocks: int, tokens: int,
) -> None:  # fmt: skip
    cut = layout(spec, tp=tp, version=version)
    assert [each.state for each in cut.groups] == [False, True, True, True]
    assert cut.groups[0].block_tokens == block
    ledger = replace(
        memory_ledger(MemoryDemand(
            spec=LLAMA, gpu=load_gpu("h200"), precision=BF16, max_num_batched_tokens=2048,
            max_num_seqs=256, version=version, max_model_len=8192,
        )),
        layout=cut, num_gpu_blocks=int(kv_gib * GIB) // cut.block_bytes, max_model_len=length,
    )  # fmt: skip
    assert ledger.num_gpu_blocks == blocks
    assert ledger.kv_tokens == tokens


def test_a_latent_is_on_every_rank() -> None:
    latent = keeps(Cache(kind=LATENT, per_entry=repeated(576), fp8_entry_bytes=656))
    spec = model(*[latent] * 61)
    assert layout(spec).block_bytes == layout(spec, tp=8).block_bytes == 61 * 64 * 576 * 2
    fp8 = kv_layout(spec, precision=precision("bfloat16", None, "fp8"), tp=8)
    assert fp8.block_bytes == 61 * 64 * 656
    assert [each.block_tokens for each in fp8.groups] == [64]


def test_windows_keep_everything_without_groups() -> None:
    for changes in ({"version": "0.8.5"}, {"disable_hybrid_kv_cache_manager": True}):
        kept = layout(GPT_OSS_120B, **changes)
        assert [(each.layers, each.window) for each in kept.groups] == [(36, None)]
        assert kept.block_bytes == 36 * 16 * 2 * 8 * 64 * 2
    alone = layout(model(heads(8, 128, 4096)), disable_hybrid_kv_cache_manager=True)
    assert alone.groups[0].window == 4096
    with pytest.raises(UnsupportedLayersError, match="layers with a state beside attention need"):
        layout(QWEN3_NEXT, disable_hybrid_kv_cache_manager=True)


def test_published_models_have_the_blocks_that_servers_log() -> None:
    """784 tokens: LMCache/LMCache#5079; the rest of gpt-oss-20b: a log of 0.19.0 on an A100."""
    assert layout(load_spec("qwen3.6-27b")).groups[0].block_tokens == 784
    spec = load_spec("gpt-oss-20b")
    entry = memory_ledger(MemoryDemand(
        spec=spec, gpu=load_gpu({"like": "a100-80gb-sxm", "memory_bytes": round(79.25 * GIB)}),
        precision=precision("bfloat16", spec.checkpoint.weights), gpu_memory_utilization=0.65,
        max_num_batched_tokens=2048, max_num_seqs=256, max_model_len=131_072, version="0.19",
    ))  # fmt: skip
    assert entry.kv_bytes / GIB == pytest.approx(36.56, rel=0.05)
    assert entry.kv_tokens == entry.num_gpu_blocks // 2 * 16


@pytest.mark.parametrize(
    ("name", "card", "gib", "quantization", "kv", "tokens", "seqs", "share", "version", "logged"),
    [
        # The first two above: what is left for KV, of whole ledgers.
        ("qwen3.5-27b", "h200-sxm", 139.8, None, "auto", 16_384, 16, 0.9, "0.19.0",
         1487 * 51_380_224 / GIB),
        ("qwen3.5-35b-a3b", "rtx-5090", 31.37, "fp4", "fp8", 8192, 1, 0.92, "0.24.0", 5.98),
    ],
)  # fmt: skip
def test_models_that_see_profile_their_encoder(
    name: str, card: str, gib: float, quantization: str | None, kv: str, tokens: int, seqs: int,
    share: float, version: str, logged: float,
) -> None:  # fmt: skip
    entry = memory_ledger(MemoryDemand(
        spec=load_spec(name), gpu=load_gpu({"like": card, "memory_bytes": round(gib * GIB)}),
        precision=precision("bfloat16", quantization, kv), gpu_memory_utilization=share,
        max_num_batched_tokens=tokens, max_num_seqs=seqs, max_model_len=32_768, version=version,
    ))  # fmt: skip
    assert entry.kv_bytes / GIB == pytest.approx(logged, rel=0.05)


def test_a_window_of_gpt_oss_beside_full_layers() -> None:
    """vLLM issue 27508: 131,072 tokens of gpt-oss-120b need 4.54 GiB."""
    cut = layout(GPT_OSS_120B, version="0.11")
    need = cut.most_blocks(131_072, 1024) * cut.block_bytes / GIB
    assert need == pytest.approx(4.54, abs=0.005)


def test_latent_attention_needs_room_to_expand_its_past() -> None:
    """65,536 tokens x 16 heads x (128 + 128) x 2 bytes, and four times the hidden states."""
    spec = load_spec("deepseek-v2-lite")
    limits = {"precision": BF16, "max_num_batched_tokens": 2048, "max_num_seqs": 8}
    entry = memory_ledger(MemoryDemand(spec=spec, gpu=load_gpu("h100"), version="0.15", **limits))
    assert entry.activations.bytes == 2 * (65_536 * 16 * 256 + 2048 * 4 * 2048)
    short = memory_ledger(
        MemoryDemand(spec=spec, gpu=load_gpu("h100"), version="0.15", max_model_len=512, **limits)
    )
    assert short.activations.bytes < entry.activations.bytes


def test_a_ledger_shows_its_groups() -> None:
    entry = memory_ledger(MemoryDemand(
        spec=GPT_OSS_120B, gpu=load_gpu("h100"), precision=BF16, max_num_batched_tokens=8192,
        max_num_seqs=256, max_model_len=8192, version="0.31", async_scheduling=True,
    ))  # fmt: skip
    # With async scheduling two steps are in flight: a window holds no less than a whole request.
    assert entry.longest_blocks == 512 + 513
    assert entry.kv_tokens == int(entry.num_gpu_blocks / 1025 * 8192)
    text = entry.as_text()
    assert "in groups: 18 layers within a window of 128, 16 tokens a block; 18 layers, 16" in text
    assert f"max_model_len = 8192: 1,025 blocks, {entry.max_concurrency:.2f} at a time" in text
    older = replace(entry, tokens_by_concurrency=False)
    assert older.kv_tokens == entry.num_gpu_blocks // 2 * 16
    few = replace(entry, num_gpu_blocks=500)
    assert few.layout.most_blocks(few.longest_tokens, few.in_flight_tokens) <= 500
    assert few.layout.most_blocks(few.longest_tokens + 1, few.in_flight_tokens) > 500


def test_compressed_entries_share_slots_with_windows() -> None:
    """DeepSeek-V4-Flash: 43 layers, of which 21 compress by 4 and 20 by 128.

    64 entries of 584 bytes are filled up to 37,440, 2 of them to 1,728, 64 keys of 132 to 8,640. A
    compressor by 4 keeps 8,192 bytes a token, one by 128 half of it: 4 and 8 tokens a page. Sizes
    and groups are those that vLLM 0.28.1 told (its issue 54703): 62 layers, 22 + 21, 42, 20.
    """
    spec = load_spec("deepseek-v4-flash")
    layout = kv_layout(spec, precision=precision(), tp=4, version="0.28")
    assert layout.block_bytes == 21 * 37_440 + 21 * 8_640 + 20 * 1_728 == 1_002_240
    sizes = kv_layout(spec, precision=precision(), tp=4, version="0.24")
    assert sizes.block_bytes == 22 * 37_440 + 21 * 8_640 + 20 * 1_728
    assert layout.groups == (
        KvGroup(layers=62, block_tokens=256),
        KvGroup(layers=22, block_tokens=64, window=128),
        KvGroup(layers=21, block_tokens=64, window=128),
        KvGroup(layers=42, block_tokens=4, window=8),
        KvGroup(layers=20, block_tokens=8, window=128),
    )
    # A million tokens, computed one at a time: 4,096 blocks, and a few of every window.
    assert layout.most_blocks(2**20, 1) == 4096 + 2 * 3 + 3 + 17
    assert kv_layout(spec, precision=precision(kv_cache_dtype="fp8")) == layout
    # vLLM 0.22 on 2 x GH200 (its issue 44376), which filled all pages up to 22 layers: 30,000
    # tokens need 6.66 GiB, and 5.44 GiB hold 13,528.
    filled = kv_layout(spec, precision=precision(), version="0.22").block_bytes
    assert filled == 22 * (37_440 + 8_640 + 1_728)
    assert layout.most_blocks(30_000, 16_384) * filled / 2**30 == pytest.approx(6.66, abs=0.005)
    assert layout.most_blocks(13_528, 16_384) * filled / 2**30 == pytest.approx(5.44, abs=0.005)


def test_windows_are_cut_so_that_little_is_filled_up() -> None:
    """DeepSeek-V4-Pro: 30 layers compress by 4, 31 by 128; 61 windows are 31 and 30."""
    layout = kv_layout(load_spec("deepseek-v4-pro"), precision=precision())
    assert layout.block_bytes == 30 * 37_440 + 30 * 8_640 + 31 * 1_728
    assert [group.layers for group in layout.groups] == [91, 31, 30, 31, 60]


@pytest.mark.parametrize(
    ("least", "counts", "layers"),
    [(22, [21, 42, 20], 22), (2, [3, 5], 3), (3, [5, 3], 3)],
)
def test_of_sizes_that_fill_up_alike_the_widest_is_taken(
    least: int, counts: list[int], layers: int
) -> None:
    """2, 3 and 5 layers in groups of two or of three: two are filled up, either way."""
    assert _least_filled(least, counts) == layers


def test_compressed_entries_need_groups() -> None:
    for changes in ({"version": "0.19"}, {"disable_hybrid_kv_cache_manager": True}):
        with pytest.raises(UnsupportedLayersError, match="entries that stand for several tokens"):
            layout(load_spec("deepseek-v4-flash"), **changes)


@pytest.mark.parametrize(("version", "groups"), [("0.10.2", 1), ("0.13.0", 1), ("0.14.1", 4)])
def test_layers_that_attend_chunks_have_groups_since_vllm_allows_them(
    version: str, groups: int
) -> None:
    """Llama 4: three layers of chunks to one of all; before 0.14 every layer keeps everything."""
    scout = load_spec("llama-4-scout-17b-16e")
    layout = kv_layout(scout, precision=BF16, version=version)
    assert len(layout.groups) == groups
    windows = {group.window for group in layout.groups}
    assert windows == ({None} if groups == 1 else {None, 8192})
    assert {group.chunked for group in layout.groups if group.window} <= {True}


def test_a_chunk_holds_no_block_but_its_own() -> None:
    """Of 100 tokens with 30 under way: a window of 24 may begin within a block."""
    chunk = KvGroup(layers=1, block_tokens=8, window=24, chunked=True)
    assert chunk.most_blocks(100, 30) == 7  # 54 tokens
    assert replace(chunk, chunked=False).most_blocks(100, 30) == 8  # 53, and one more
    assert chunk.most_blocks(40, 30) == 5


def test_chunks_are_of_whole_blocks() -> None:
    scout = replace(load_spec("llama-4-scout-17b-16e"), attention_chunk_tokens=8192)
    with pytest.raises(UnsupportedLayersError, match="= 8192: expected a multiple of the 48"):
        kv_layout(scout, precision=BF16, block_size=48)
