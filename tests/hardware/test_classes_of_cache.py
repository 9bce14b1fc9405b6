"""Layers that look back differently far are priced by what each class of them reads."""

from array import array
from dataclasses import replace
from itertools import accumulate
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.calibration import load_calibration
from hardware.gpu import load_gpu
from hardware.prices.lines import straight_pieces
from hardware.prices.work import ReadTotals
from hardware.steps.cost import VECTOR_STEPS, StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.alike import attention_of, dense_of
from model.ops import step_operators
from model.precision import precision
from model.shape import DecoderSpec, grouped
from model.spec import load_spec

LLAMA = load_spec("llama-3-8b")
GPU = load_gpu("h100-sxm")
BF16 = precision()


def with_windows(*windows: int | None) -> DecoderSpec:
    """A Llama with layers of these windows, in turn."""
    mixers = [
        replace(attention_of(LLAMA), sliding_window=windows[place % len(windows)])
        for place in range(12)
    ]
    each = [(mixer, dense_of(LLAMA)) for mixer in mixers]
    return replace(LLAMA, layers=grouped(each, LLAMA.layers[0].norm))


def cost(spec: DecoderSpec, **changes: object) -> StepCost:
    limits = {"precision": BF16, "max_tokens": 2048, "max_seqs": 80} | changes
    return step_cost(StepSetup(spec=spec, gpu=GPU, **limits))


HYBRIDS = {
    "two": cost(with_windows(128, None)),
    "three": cost(with_windows(None, 512, 4096, 512)),
    "standard": cost(with_windows(64, None), fused=False),
    "measured": cost(with_windows(128, None), calibration=load_calibration("h100-sxm")),
}


@settings(max_examples=60, deadline=None)
@given(
    fused=st.booleans(),
    decodes=st.integers(0, 64),
    mean_context=st.integers(1, 20000),
    chunks=st.lists(st.tuples(st.integers(1, 600), st.integers(0, 20000)), max_size=3),
)
def test_a_step_is_the_sum_of_its_operators(
    fused: bool, decodes: int, mean_context: int, chunks: list[tuple[int, int]]
) -> None:
    spec = with_windows(128, None, 1024)
    price = cost(spec, fused=fused)
    reads = [decodes * min(mean_context, window or mean_context) for window in price.windows]
    expected = sum(
        x.layers * max(x.flops / GPU.peak(x.compute), x.bytes / GPU.bandwidth_bytes_per_s)
        for x in step_operators(
            spec, decodes, decodes * mean_context, chunks, precision=BF16, fused=fused
        )
    )
    assert price.step_s(decodes, reads, chunks) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(HYBRIDS)),
    decodes=st.integers(1, 64),
    mean_context=st.integers(1, 60000),
    growing=st.lists(st.integers(0, 64), min_size=3, max_size=3),
    steps=st.integers(1, 3 * VECTOR_STEPS),
    stop=st.floats(0, 1),
)
def test_many_steps_at_once_are_equal_to_the_last_bit(
    name: str, decodes: int, mean_context: int, growing: list[int], steps: int, stop: float
) -> None:
    price = HYBRIDS[name]
    reads = [decodes * min(mean_context, window or mean_context) for window in price.windows]
    growth = growing[: len(reads)]
    durations = [
        price.step_s(decodes, [at + i * more for at, more in zip(reads, growth, strict=True)], ())
        for i in range(steps)
    ]
    one_by_one = list(accumulate(durations, initial=1.25))[1:]
    ends_s = array("d")
    assert price.decode_ends_s(1.25, decodes, reads, growth, steps, inf, ends_s) == ends_s[-1]
    assert list(ends_s) == one_by_one
    last = int(stop * (steps - 1))
    price.decode_ends_s(1.25, decodes, reads, growth, steps, one_by_one[last], ends_s)
    assert list(ends_s[steps:]) == one_by_one[: last + 1]


@settings(max_examples=150, deadline=None)
@given(
    operators=st.lists(
        st.lists(st.tuples(*[st.floats(0, 1e-2), st.floats(0, 1e-7)] * 2), min_size=1, max_size=3),
        min_size=2,
        max_size=2,
    ),
    reads=st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)),
    growth=st.tuples(st.integers(0, 900), st.integers(0, 900)),
    steps=st.integers(1, 4 * VECTOR_STEPS),
)
def test_each_class_is_on_a_line_of_its_own(
    operators: list[list[tuple[float, float, float, float]]],
    reads: tuple[int, int],
    growth: tuple[int, int],
    steps: int,
) -> None:
    pairs = [[((a, b), (c, d)) for a, b, c, d in each] for each in operators]
    price = replace(HYBRIDS["two"], decode_pieces=[[straight_pieces(each)] * 3 for each in pairs])
    bare_s = replace(price, decode_pieces=[[((0, 0.0, 0.0),)] * 3] * 2).step_s(2, [1, 1], ())
    at = [[reads[0] + i * growth[0], reads[1] + i * growth[1]] for i in range(steps)]
    durations = [price.step_s(2, each, ()) for each in at]
    longer = [
        sum(
            max(a + b * n, c + d * n)
            for of_class, n in zip(pairs, each, strict=True)
            for (a, b), (c, d) in of_class
        )
        for each in at
    ]
    assert durations == pytest.approx([bare_s + each for each in longer], rel=1e-12)
    ends_s = array("d")
    price.decode_ends_s(0.5, 2, reads, growth, steps, inf, ends_s)
    assert list(ends_s) == list(accumulate(durations, initial=0.5))[1:]


def test_work_is_counted_by_class() -> None:
    none = np.array([], dtype=np.int64)
    reads = [ReadTotals(128, 0, 0), ReadTotals(9000, 10, 5)]
    flops, moved = cost(with_windows(128, None, None)).work(none, none, none, reads)
    position_bytes = 2 * 8 * 128 * 2  # keys and values, heads, numbers, bytes
    assert moved == position_bytes * (4 * 128 + 8 * 9005)
    assert flops == 32 * (4 * 128 + 3) * (4 * 128 + 8 * 9010)


def test_the_ceiling_of_decoding_is_that_of_the_windows() -> None:
    short, long, both = (cost(with_windows(*each)) for each in ((128,), (None,), (128, None)))
    rates = [each.decode_tokens_per_s(64, 20_000.0) for each in (long, both, short)]
    assert rates[0] < rates[1] < rates[2]
    assert 2 / rates[1] == pytest.approx(1 / rates[0] + 1 / rates[2], rel=1e-9)


def test_a_step_says_what_it_reads_in_every_class() -> None:
    for reads in (5, [5], [5, 5, 5]):
        with pytest.raises(ValueError, match=r"expected one of each window \(128, None\)"):
            HYBRIDS["two"].step_s(1, reads, ())
    assert HYBRIDS["two"].windows == (128, None)
