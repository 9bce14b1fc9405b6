import pickle
from array import array
from dataclasses import replace
from itertools import accumulate
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.calibration import DATASHEET
from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from hardware.links.interconnect import all_gather_s, all_reduce_s
from hardware.prices.lines import straight_pieces
from hardware.prices.work import ReadTotals
from hardware.steps.cost import VECTOR_STEPS
from hardware.steps.setup import StepSetup, step_cost
from model.ops import step_operators
from model.precision import precision
from model.spec import load_spec

BF16 = precision()
WORN = DATASHEET.model_copy(
    update={
        "gemm_flops": 0.7,
        "gemm_bytes": 0.8,
        "attention_prefill_flops": 0.5,
        "attention_prefill_bytes": 0.9,
        "attention_decode_flops": 0.2,
        "attention_decode_bytes": 0.75,
        "elementwise_bytes": 0.6,
        "all_reduce_bytes": 0.65,
        "step_overhead_s": 1.3e-3,
        "sequence_overhead_s": 7e-6,
        "chunk_overhead_s": 3e-5,
        "layer_overhead_s": 2e-6,
        "collective_overhead_s": 3e-6,
    }
)


def cost(model="llama-3-8b", gpu="a100-80gb-sxm", **settings_):
    defaults = {"precision": BF16, "max_tokens": 4096, "max_seqs": 256}
    return step_cost(StepSetup(spec=load_spec(model), gpu=load_gpu(gpu), **(defaults | settings_)))


COSTS = {
    "plain": cost(),
    "worn": cost(calibration=WORN),
    "window": cost("mistral-7b", calibration=WORN),
    "standard": cost(calibration=WORN, fused=False),
    "experts": cost("mixtral-8x7b", "h100", tp=2, calibration=WORN),
    "fp8": cost("qwen3-14b", "h100", precision=precision("bfloat16", "fp8", "fp8")),
}


def from_operators(model, gpu, decodes, context_tokens, chunks, *, fused=True, tp=1):
    """The price of a step, operator by operator, at the datasheet's peaks."""
    operators = step_operators(
        load_spec(model), decodes, context_tokens, chunks, precision=BF16, tp=tp, fused=fused
    )
    return sum(
        x.layers * max(x.flops / gpu.peak(x.compute), x.bytes / gpu.bandwidth_bytes_per_s)
        for x in operators
    )


@settings(max_examples=80, deadline=None)
@given(
    model=st.sampled_from(["llama-3-8b", "mistral-7b", "qwen1.5-moe-a2.7b", "gpt2-xl"]),
    fused=st.booleans(),
    decodes=st.integers(0, 200),
    mean_context=st.integers(1, 20000),
    chunks=st.lists(st.tuples(st.integers(1, 900), st.integers(0, 20000)), max_size=3),
)
def test_a_step_is_the_sum_of_its_operators(model, fused, decodes, mean_context, chunks):
    gpu = load_gpu("a100")
    price = cost(model, fused=fused, max_tokens=3000)
    window = load_spec(model).sliding_window
    context = decodes * min(mean_context, window or mean_context)
    expected = from_operators(model, gpu, decodes, context, chunks, fused=fused)
    assert price.step_s(decodes, context, chunks) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(COSTS)),
    decodes=st.integers(1, 256),
    mean_context=st.integers(1, 60000),
    growth=st.integers(0, 300),
    steps=st.integers(1, 3 * VECTOR_STEPS),
)
def test_many_steps_at_once_are_equal_to_the_last_bit(name, decodes, mean_context, growth, steps):
    price = COSTS[name]
    context = decodes * mean_context
    durations = [price.step_s(decodes, context + i * growth, ()) for i in range(steps)]
    one_by_one = list(accumulate(durations, initial=1.25))[1:]
    ends_s = array("d")
    assert price.decode_ends_s(1.25, decodes, context, growth, steps, inf, ends_s) == ends_s[-1]
    assert list(ends_s) == one_by_one
    middle_s = one_by_one[steps // 2]
    price.decode_ends_s(1.25, decodes, context, growth, steps, middle_s, ends_s)
    assert list(ends_s[steps:]) == one_by_one[: steps // 2 + 1]  # behind what is there already


@settings(max_examples=150, deadline=None)
@given(
    operators=st.lists(
        st.tuples(*[st.floats(0, 1e-2), st.floats(0, 1e-7)] * 2), min_size=1, max_size=3
    ),
    context=st.integers(1, 200_000),
    growth=st.integers(0, 900),
    steps=st.integers(1, 4 * VECTOR_STEPS),
)
def test_operators_take_the_longer_of_two_lines_each(operators, context, growth, steps):
    pairs = [((a, b), (c, d)) for a, b, c, d in operators]
    pieces = straight_pieces(pairs)
    nothing = ((0.0, 0.0),)  # one operator alone is the same as beside what takes no time
    assert straight_pieces(pairs[:1]) == straight_pieces([pairs[0], nothing])
    price = replace(COSTS["plain"], decode_pieces=[[pieces] * 3])
    contexts = [context + i * growth for i in range(steps)]
    durations = [price.step_s(2, each, ()) for each in contexts]
    bare_s = replace(price, decode_pieces=[[((0, 0.0, 0.0),)] * 3]).step_s(2, 1, ())
    longer = [sum(max(a + b * n, c + d * n) for (a, b), (c, d) in pairs) for n in contexts]
    assert durations == pytest.approx([bare_s + each for each in longer], rel=1e-12)
    ends_s = array("d")
    price.decode_ends_s(0.5, 2, context, growth, steps, inf, ends_s)
    assert list(ends_s) == list(accumulate(durations, initial=0.5))[1:]


def test_the_fastest_token_of_llama_3_8b_on_an_a100():
    """Every weight but the input embedding (one row of it) is read: 15.01 GB at 2.039 TB/s."""
    spec, price = load_spec("llama-3-8b"), cost()
    read_bytes = 2 * (spec.parameters() - spec.embedding_parameters())
    bound_s = read_bytes / 2.039e12
    assert bound_s == pytest.approx(7.36e-3, abs=5e-6)
    fastest_s = price.ceilings()["fastest_token_s"]
    assert bound_s <= fastest_s <= 1.002 * bound_s
    assert price.step_s(1, 1, ()) == pytest.approx(fastest_s, rel=1e-12)


def test_a_long_prefill_is_bound_by_arithmetic():
    """2 FLOPs per matrix weight and token and causal attention at 312 TFLOP/s; norms add 6%."""
    seconds = cost().step_s(0, 0, [(4096, 0)])
    linear = 2 * 4096 * load_spec("llama-3-8b").linear_parameters() / 312e12
    attention = 32 * 32 * (4096 * 4097 / 2) * (4 * 128 + 3) / 312e12
    assert seconds > linear + attention
    assert seconds == pytest.approx(linear + attention, rel=0.07)


def test_tensor_parallelism_adds_collectives():
    """Two all-reduces per layer and one behind the embedding; the logits are gathered."""
    spec, gpu = load_spec("llama-3-70b"), load_gpu("h100")
    price = cost("llama-3-70b", "h100", tp=4)
    alone = from_operators("llama-3-70b", gpu, 64, 64000, [], tp=4)
    reduced = (2 * 80 + 1) * all_reduce_s(64 * 8192 * 2, 4, gpu)
    gathered = all_gather_s(64 * spec.vocab_size * 2, 4, gpu)
    assert price.step_s(64, 64000, ()) == pytest.approx(alone + reduced + gathered, rel=1e-12)


def test_overheads_are_added():
    names = [name for name in type(WORN).model_fields if name.endswith("overhead_s")]
    only = DATASHEET.model_copy(update={name: getattr(WORN, name) for name in names})
    plain = cost().step_s(10, 1000, [(100, 0), (50, 10)])
    worn = cost(calibration=only).step_s(10, 1000, [(100, 0), (50, 10)])
    added = 1.3e-3 + 12 * 7e-6 + 2 * 3e-5 + 32 * 2e-6
    assert worn - plain == pytest.approx(added, rel=1e-9)
    given = cost(calibration=only, step_overhead_s=0.0, sequence_overhead_s=1e-6)
    expected = plain + 12 * 1e-6 + 2 * 3e-5 + 32 * 2e-6
    assert given.step_s(10, 1000, [(100, 0), (50, 10)]) == pytest.approx(expected)


def test_a_collective_overhead_counts_every_collective():
    slow = DATASHEET.model_copy(update={"collective_overhead_s": 1e-5})
    pair = [cost(tp=2, calibration=c).step_s(4, 400, ()) for c in (DATASHEET, slow)]
    assert pair[1] - pair[0] == pytest.approx((2 * 32 + 2) * 1e-5)


@pytest.mark.parametrize(
    ("parameter", "step", "changes"),
    [
        ("gemm_flops", (0, 0, [(2048, 0)]), True),
        ("gemm_bytes", (1, 100, []), True),
        ("attention_decode_bytes", (64, 640000, []), True),
        ("attention_prefill_flops", (0, 0, [(2048, 2048)]), True),
        ("attention_prefill_flops", (64, 64000, []), False),
        ("attention_decode_bytes", (0, 0, [(2048, 0)]), False),
        ("elementwise_bytes", (0, 0, [(2048, 0)]), True),
        ("all_reduce_bytes", (64, 64000, []), False),
    ],
)
def test_an_efficiency_prices_its_own_operators(parameter, step, changes):
    half = cost(calibration=DATASHEET.model_copy(update={parameter: 0.5})).step_s(*step)
    assert (half > cost().step_s(*step)) == changes


def test_half_of_every_efficiency_is_twice_the_time():
    names = [name for name in type(WORN).model_fields if name.endswith(("_flops", "_bytes"))]
    half = DATASHEET.model_copy(update=dict.fromkeys(names, 0.5))
    # Elementwise operators are never bound by arithmetic here, so their traffic alone doubles.
    for step in ((1, 1, []), (100, 90000, [(1000, 500)])):
        twice = 2 * cost().step_s(*step)
        assert cost(calibration=half).step_s(*step) == pytest.approx(twice, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(COSTS)),
    decodes=st.integers(0, 100),
    mean_context=st.integers(1, 5000),
    chunk=st.integers(1, 1000),
    past=st.integers(0, 9000),
)
def test_more_work_takes_no_less_time(name, decodes, mean_context, chunk, past):
    price = COSTS[name]
    context = decodes * mean_context
    here = price.step_s(decodes, context, [(chunk, past)])
    assert price.step_s(decodes + 1, context + 1, [(chunk, past)]) >= here
    assert price.step_s(decodes, context + decodes, [(chunk, past)]) >= here
    assert price.step_s(decodes, context, [(chunk + 1, past)]) >= here
    assert price.step_s(decodes, context, [(chunk, past + 1)]) >= here
    assert price.step_s(decodes, context, [(chunk, past), (1, 0)]) >= here


@pytest.mark.parametrize("name", sorted(COSTS))
def test_tables_start_at_nothing_and_never_fall(name):
    price = COSTS[name]
    for table in (price.token_s, price.sequence_s):
        assert table[0] == 0.0
        assert all(type(seconds) is float for seconds in table[:3])
        assert np.all(np.diff(table) >= 0)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(COSTS)),
    decodes=st.integers(0, 200),
    mean_context=st.integers(1, 5000),
    chunks=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 900)), max_size=50),
)
def test_no_step_passes_the_ceilings(name, decodes, mean_context, chunks):
    price = COSTS[name]
    outputs = decodes + len(chunks)
    if not outputs:
        return
    seconds = price.step_s(decodes, decodes * mean_context, chunks)
    ceilings = price.ceilings()
    assert outputs / seconds <= ceilings["output_tokens_per_s"] * (1 + 1e-12)
    assert sum(chunk for chunk, _ in chunks) / seconds <= ceilings["prefill_tokens_per_s"]
    assert seconds >= ceilings["fastest_token_s"] * (1 - 1e-12) or not decodes


def test_ceilings_with_context():
    price = cost()
    assert price.decode_tokens_per_s(256) == price.ceilings()["decode_tokens_per_s"]
    assert price.decode_tokens_per_s(256, 1000.0) == pytest.approx(
        256 / price.step_s(256, 256000, ())
    )
    window = COSTS["window"]
    assert window.decode_tokens_per_s(8, 4096.0) == window.decode_tokens_per_s(8, 9999.0)


def test_work_is_the_sum_over_steps():
    price = cost(calibration=WORN, fused=False)
    steps = [(3, 300, []), (4, 500, [(100, 20)]), (0, 0, [(64, 0), (10, 500)])]
    flops = bytes_ = 0.0
    for decodes, context, chunks in steps:
        for x in step_operators(load_spec("llama-3-8b"), decodes, context, chunks, precision=BF16):
            flops += x.layers * x.flops
            bytes_ += x.layers * x.bytes
    chunks = [chunk for _, _, chunks in steps for chunk in chunks]
    reads = ReadTotals(
        decode_reads=800,
        prefill_pairs=sum(n * past + n * (n + 1) // 2 for n, past in chunks),
        prefill_reads=sum(n + past for n, past in chunks),
    )
    work = price.work(np.array([3, 104, 74]), np.array([3, 5, 2]), np.array([3, 4, 0]), [reads])
    assert work == pytest.approx((flops, bytes_), rel=1e-12)


def test_work_of_no_steps():
    none = np.array([], dtype=np.int64)
    assert cost().work(none, none, none) == (0.0, 0.0)


def test_a_step_beyond_the_tables():
    price = cost(max_tokens=64, max_seqs=8)
    with pytest.raises(ValueError, match="a step of 65 tokens is beyond max_tokens = 64"):
        price.step_s(1, 1, [(64, 0)])
    with pytest.raises(ValueError, match="a step of 9 sequences is beyond max_seqs = 8"):
        price.decode_ends_s(0.0, 9, 9, 9, 1, inf, array("d"))
    with pytest.raises(ValueError, match="a step of 9 sequences is beyond max_seqs = 8"):
        price.decode_tokens_per_s(9)
    nine = np.array([9])
    with pytest.raises(ValueError, match="a step of 9 sequences is beyond max_seqs = 8"):
        price.work(nine, nine, nine)


def test_limits_below_one():
    with pytest.raises(ValueError, match="max_tokens = 0 of one step, expected 1 to"):
        cost(max_tokens=0)
    with pytest.raises(ValueError, match="max_seqs = 0 of one step, expected 1 to"):
        cost(max_seqs=0)


def test_a_price_survives_pickling():
    price = pickle.loads(pickle.dumps(COSTS["worn"]))
    assert price.step_s(3, 50, [(7, 2)]) == COSTS["worn"].step_s(3, 50, [(7, 2)])


def test_setups_that_differ_in_seats_share_what_tokens_take():
    """What graphs replay differs, and is not shared."""
    gpu = load_gpu("a100-80gb-sxm")
    given_ = {"spec": load_spec("llama-3-8b"), "gpu": gpu, "precision": BF16, "max_tokens": 512}
    few, many = (
        StepSetup(**given_, calibration=engine_calibration("vllm-0.15", gpu), max_seqs=seats)
        for seats in (8, 256)
    )
    assert few.of_tokens() is many.of_tokens()
    assert replace(few, max_tokens=513).of_tokens() is not few.of_tokens()
    assert replace(few, fused=False).of_tokens() is not few.of_tokens()
    before = few.of_tokens()[1].copy()
    assert step_cost(few).token_s[100] != step_cost(many).token_s[100]
    assert (few.of_tokens()[1] == before).all()
