"""How decodes are grouped, what the variable-length kernel is told, and runs on a GPU."""

import numpy as np
import pytest
import torch
from numpy_decoder import numpy_logits
from small_decoders import GPT2, LLAMA, MISTRAL, ONE_HEAD, QWEN3, random_tokens, small_decoder
from torch import Tensor

from model.spec import DecoderSpec
from model.torch.attention import choose_kernel
from model.torch.decoder import Decoder
from model.torch.step_plan import DecodeGroup, plan_step

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def planned(kernel: str, slots: list[int], pasts: list[int]) -> list[tuple[int, int, int, int]]:
    """(first cache row, sequences, end key, masked positions) of each group of decodes."""
    plan = plan_step(
        LLAMA,
        [(9, 3, 0)],
        slots,
        pasts,
        slot_tokens=1000,
        kernel=kernel,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    assert [group.row for group in plan.groups] == list(
        3 + np.cumsum([0, *(group.sequences for group in plan.groups[:-1])])
    )
    return [
        (group.cache_row, group.sequences, group.end_key, masked(group)) for group in plan.groups
    ]


def masked(group: DecodeGroup) -> int:
    return 0 if group.mask is None else int(group.mask.isinf().sum())


def test_decodes_share_a_call_while_padding_is_cheap() -> None:
    """A position of this model's layer is 128 bytes, so a saved call is worth 2048 of them."""
    assert planned("sdpa", [0, 1, 2], [9, 9, 9]) == [(0, 3, 10, 0)]
    assert planned("sdpa", [0, 1, 2], [9, 99, 999]) == [(0, 3, 1000, 3000 - 1110)]
    assert planned("sdpa", [0, 1, 3], [9, 9, 9]) == [(0, 2, 10, 0), (3000, 1, 10, 0)]
    assert planned("sdpa", [2, 0, 1], [9, 7, 8]) == [(0, 3, 10, 3)]
    assert planned("standard", [0, 1], [9, 9]) == [(0, 1, 10, 0), (1000, 1, 10, 0)]


def test_decodes_part_where_padding_costs_more() -> None:
    wide = Decoder(LLAMA, device="meta").new_cache(1, 1)
    assert wide.size_bytes == 2 * 128
    plan = plan_step(
        LLAMA,
        [],
        [0, 1, 2, 3],
        [10, 2060, 2070, 30],
        slot_tokens=4096,
        kernel="sdpa",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    sizes = [(group.sequences, group.end_key) for group in plan.groups]
    # 2061 - 11 > 2048: apart. 2071 - 2061 is little: together. The fourth wastes 2050 for two
    # calls saved.
    assert sizes == [(1, 11), (3, 2071)]


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    max_queries: int,
    max_keys: int,
    dropout: float,
    is_causal: bool,
    debug: bool,
    *,
    window_size_left: int | None,
    window_size_right: int | None,
    seqused_k: Tensor,
) -> tuple[Tensor]:
    """What the CUDA kernel does, slowly: causal from the last key backwards, per sequence."""
    assert (dropout, is_causal, debug) == (0.0, True, False)
    assert {query_starts.dtype, key_starts.dtype, seqused_k.dtype} == {torch.int32}
    assert window_size_right == (None if window_size_left is None else 0)
    output = torch.full_like(query, float("nan"))
    lengths = (query_starts[1:] - query_starts[:-1]).tolist()
    assert max(lengths) == max_queries
    assert seqused_k.max() == max_keys
    group = query.shape[1] // key.shape[1]
    for i, (tokens, keys) in enumerate(zip(lengths, seqused_k.tolist(), strict=True)):
        rows = slice(int(query_starts[i]), int(query_starts[i]) + tokens)
        held = slice(int(key_starts[i]), int(key_starts[i]) + keys)
        for head in range(query.shape[1]):
            for t, row in enumerate(range(rows.start, rows.stop)):
                end = keys - tokens + t + 1
                first = 0 if window_size_left is None else max(0, end - 1 - window_size_left)
                k = key[held, head // group][first:end]
                weights = torch.softmax(k @ query[row, head] * query.shape[2] ** -0.5, 0)
                output[row, head] = weights @ value[held, head // group][first:end]
    return (output,)


@pytest.mark.parametrize("spec", [LLAMA, GPT2, MISTRAL, ONE_HEAD], ids=lambda spec: spec.name)
def test_variable_length_bounds(spec: DecoderSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel runs on GPUs only; here its contract stands in, so its arguments are checked."""
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash_attention, raising=False)
    decoder = small_decoder(spec, kernel="varlen")
    check_mixed_steps(decoder, small_decoder(spec, kernel="standard"), 1e-9)


def check_mixed_steps(decoder: Decoder, expected: Decoder, tolerance: float) -> None:
    """Prefill, then a chunk with past, a new prompt and two decodes in one step."""
    sequences = random_tokens(decoder.spec, 9, 12, 7, 10)
    tokens = [sequence.to(decoder.device) for sequence in sequences]
    wanted = [expected(sequence[None])[0].double() for sequence in sequences]
    largest = max(logits.abs().max().item() for logits in wanted)
    cache = decoder.new_cache(slots=5, slot_tokens=16)
    prefills = [(4, tokens[0][:-1], 0), (0, tokens[1][:-1], 0), (2, tokens[2][:4], 0)]
    first = decoder.step(cache, prefills)
    fed = torch.stack((tokens[0][-1], tokens[1][-1]))
    chunks = [(3, tokens[3], 0), (2, tokens[2][4:], 4)]
    second = decoder.step(cache, chunks, [4, 0], fed, [8, 11])
    whole = decoder(tokens[3][None])[0]
    rows = [wanted[0][-2], wanted[1][-2], wanted[2][3]]
    assert (first.cpu().double() - torch.stack(rows)).abs().max() < tolerance * largest
    rows = [wanted[i][-1] for i in (3, 2, 0, 1)]
    assert (second.cpu().double() - torch.stack(rows)).abs().max() < tolerance * largest
    assert (whole.cpu().double() - wanted[3]).abs().max() < tolerance * largest


def test_kernel_of_each_device() -> None:
    cpu, gpu, meta = (torch.device(name) for name in ("cpu", "cuda", "meta"))
    assert choose_kernel(LLAMA, cpu, torch.bfloat16) == "sdpa"
    assert choose_kernel(LLAMA, gpu, torch.bfloat16) == "varlen"
    assert choose_kernel(LLAMA, gpu, torch.float32) == "sdpa"
    assert choose_kernel(LLAMA, meta, torch.bfloat16) == "standard"


def test_decoding_needs_a_cache() -> None:
    decoder = small_decoder(LLAMA)
    plan = decoder._plan([], [0], [0], 1)
    with pytest.raises(ValueError, match="decoding needs a KV cache"):
        decoder._hidden(torch.tensor([1]), plan, None)


@needs_gpu
@pytest.mark.parametrize("spec", [LLAMA, GPT2, QWEN3, MISTRAL], ids=lambda spec: spec.name)
@pytest.mark.parametrize("kernel", ["varlen", "sdpa", "standard"])
def test_bfloat16_on_a_gpu(spec: DecoderSpec, kernel: str) -> None:
    exact = small_decoder(spec)
    decoder = Decoder(spec, device="cuda", dtype=torch.bfloat16, kernel=kernel)
    for parameter, value in zip(decoder.parameters(), exact.parameters(), strict=True):
        parameter.copy_(value)
    check_mixed_steps(decoder, exact, 0.05)


@needs_gpu
@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=lambda spec: spec.name)
def test_float64_on_a_gpu(spec: DecoderSpec) -> None:
    exact = small_decoder(spec)
    decoder = Decoder(spec, device="cuda", dtype=torch.float64)
    for parameter, value in zip(decoder.parameters(), exact.parameters(), strict=True):
        parameter.copy_(value)
    check_mixed_steps(decoder, exact, 1e-9)
    weights = {name: value.double().numpy() for name, value in exact.named_parameters()}
    (tokens,) = random_tokens(spec, 9)
    numpy = numpy_logits(spec, weights, tokens.tolist())
    assert np.allclose(decoder(tokens[None].cuda())[0].cpu().numpy(), numpy)


@needs_gpu
def test_the_host_never_waits_for_the_gpu() -> None:
    decoder = Decoder(LLAMA, device="cuda", dtype=torch.bfloat16)
    for parameter in decoder.parameters():
        parameter.zero_()
    cache = decoder.new_cache(slots=4, slot_tokens=32)
    (prompt,) = random_tokens(LLAMA, 8)
    prompt = prompt.cuda()
    decoder.step(cache, [(3, prompt, 0)])
    torch.cuda.set_sync_debug_mode("error")
    try:
        tokens = decoder.step(cache, [(0, prompt, 0), (2, prompt, 0)]).argmax(-1)
        for past in (8, 9):
            tokens = decoder.step(cache, (), [2, 0], tokens, [past, past]).argmax(-1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
