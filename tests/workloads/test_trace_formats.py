"""Every known format as its program writes it: right arrivals and lengths, and what is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.trace_files import BENCH, FILES, lines, mooncake
from workloads.traces import TraceError, read_lengths, read_trace
from workloads.traces.formats import FORMATS


@pytest.fixture
def written(tmp_path):
    def write(text, name="trace"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", FILES)
def test_a_format_is_recognised_and_read(written, name):
    text, times, prompts, outputs = FILES[name]
    requests = read_trace(written(text))
    np.testing.assert_allclose(requests.arrival_s, times, rtol=0, atol=1e-7)
    assert requests.prompt_tokens.tolist() == prompts
    assert requests.output_tokens.tolist() == outputs
    (note,) = requests.notes
    assert note.startswith(f"trace: format {name.split()[0]} (")
    assert f"{len(times)} requests over {times[-1]:g} s" in note


def test_the_page_on_traces_names_every_format():
    page = (Path(__file__).resolve().parents[2] / "docs" / "traces.md").read_text()
    named = {form.name for form in FORMATS if not form.name.endswith("_lengths")}
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_every_format_has_a_name_and_columns_of_its_own():
    layouts = [form.columns() for form in FORMATS]
    assert len(set(layouts)) == len(layouts)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vllm_bench", "left out: 1 failed requests"),
        ("aiperf", "left out: 1 failed or cancelled requests"),
        ("guidellm", "left out: 2 requests without a whole answer"),
        ("opentelemetry", "left out: 1 spans without token counts"),
        ("litellm", "left out: 1 failed requests"),
        ("azure 2025", "images are not modelled: 2 dropped from 1 request, "),
        ("bailian", "times read as seconds"),
        ("mooncake", "times read as ms"),
    ],
)
def test_what_is_left_out_or_assumed_is_told(written, name, told):
    assert told in read_trace(written(FILES[name][0])).notes[0]


def test_all_that_is_told_of_a_trace(written):
    text = "arrival_s,prompt_tokens,output_tokens\n4,10,3\n3,20,3\n8,30,9\n"
    assert read_trace(written(text, "t.csv")).notes == (
        "t.csv: format headroom (CSV), 3 requests over 5 s (0.4 per second); mean prompt 20.0 and "
        "output 5.0 tokens; times read as seconds; sorted by time: 1 row earlier than the one "
        "before",
    )
    (note,) = read_trace(written(text, "t.csv"), limit=2, rate_scale=2.0).notes
    assert note.endswith("; replayed: 2 of them over 0.5 s, 2 times as fast")


@pytest.mark.parametrize("key", ["chat_id", "parent_chat_id", "turn"])
def test_any_key_of_a_chat_tells_bailian(written, key):
    """Read as Mooncake's, its seconds would be a thousand times too fast."""
    path = written(lines(mooncake(5.5, 20, 3, **{key: 1}), mooncake(8.25, 21, 4, **{key: 2})))
    requests = read_trace(path)
    assert requests.arrival_s.tolist() == [0, 2.75]
    assert "format bailian" in requests.notes[0]


def test_block_ids_in_a_table_are_lists_as_text(written):
    header = "timestamp,input_length,output_length,hash_ids\n"
    path = written(f'{header}0,1024,5,"[0, 1]"\n1000,1024,5,"[0, 2]"\n')
    assert "hash_ids of blocks of 512 tokens" in read_trace(path).notes[0]
    with pytest.raises(TraceError, match=r":2: hash_ids = '\[0, 1', expected a list"):
        read_trace(written(f'{header}0,1024,5,"[0, 1"\n'))


def test_times_of_litellm_as_numbers_in_a_table(written):
    text = "startTime,prompt_tokens,completion_tokens\n1700000000.5,9,3\n1700000002.0,8,4\n"
    requests = read_trace(written(text))
    assert requests.arrival_s.tolist() == [0, 1.5]
    assert "times read as seconds" in requests.notes[0]


def test_a_lone_conversation_is_refused_as_many_are(written):
    record = {"messages": [{"role": "user", "content": "hello"}]}
    for text in (lines(record), lines(record, record), json.dumps([record])):
        with pytest.raises(TraceError, match="messages hold text, whose length in tokens"):
            read_trace(written(text))


def test_a_column_that_may_be_a_time_is_named(written):
    told = "if arrival_ms holds the arrivals, name it arrival_s, in seconds"
    with pytest.raises(TraceError, match=f"lengths without arrival times.*{told}"):
        read_trace(written("arrival_ms,prompt_tokens,output_tokens\n0,5,5\n"))
    with pytest.raises(TraceError, match=r"beside arrivals$"):
        read_trace(written("prompt_tokens,output_tokens\n5,5\n"))


def test_seconds_under_the_keys_of_milliseconds(written):
    path = written(lines(*(mooncake(second, 9, 3) for second in (0, 3, 6, 11))))
    (note,) = read_trace(path).notes
    assert "4 requests over 0.011 s (272.7 per second)" in note
    assert "if they are seconds, set workload.trace_time_unit: s" in note
    slow = written(lines(*(mooncake(second, 9, 3) for second in (0, 60))), "slow")
    assert "if they are seconds, set workload.trace_time_unit: s" in read_trace(slow).notes[0]
    requests = read_trace(path, time_unit="s")
    assert requests.arrival_s.tolist() == [0, 3, 6, 11]
    assert "times read as seconds" in requests.notes[0]
    with pytest.raises(TraceError, match=r"trace_time_unit = 's', but TIMESTAMP holds dates"):
        read_trace(written(FILES["azure 2025"][0]), time_unit="s")


@pytest.mark.parametrize(
    ("prompts", "counts", "tokens"),
    [
        ([700, 512, 1025], [2, 1, 3], 512),
        ([640, 640], [10, 10], 64),  # 64 to 71 would do
        ([700, 512, 1025], [1, 1, 2], 512),  # the last, partial block has no id
        ([100, 990], [10, 99], 10),
        ([2100, 3000], [3, 3], 1024),  # 1000 to 1049 would do
        ([1050, 1500], [3, 3], 512),
        ([90, 87], [3, 3], 32),
        ([120, 140], [3, 3], 48),  # 47 to 59 would do: no power of two
    ],
)
def test_tokens_of_a_block_are_found_from_the_lengths(written, prompts, counts, tokens):
    rows = (mooncake(0, p, 3, list(range(n))) for p, n in zip(prompts, counts, strict=True))
    requests = read_trace(written(lines(*rows)))
    assert f"hash_ids of blocks of {tokens} tokens" in requests.notes[0]
    assert requests.prefixes is not None
    assert requests.prefixes.ends[0] == min(tokens, prompts[0])


@pytest.mark.parametrize("ids", [("a", "b", "c"), (-5, 2**63 - 1, 2**63), ("7", "07", "8")])
def test_identities_of_blocks_may_be_hashes(written, ids):
    first, second, third = ids
    rows = (mooncake(0, 1024, 3, [first, second]), mooncake(1, 1000, 3, [first, third]))
    prefixes = read_trace(written(lines(*rows))).prefixes
    assert prefixes is not None
    assert prefixes.streams.tolist() == [0, 1, 0, 2]


def test_blocks_of_bailian_have_16_tokens(written):
    requests = read_trace(written(lines(mooncake(0, 40, 3, [7, 8, 9], chat_id=1))))
    assert requests.prefixes is not None
    assert requests.prefixes.ends.tolist() == [16, 32, 40]


def test_blocks_that_no_size_fits_need_a_word(written):
    path = written(lines(mooncake(0, 640, 3, list(range(10))), mooncake(0, 640, 3, [0])))
    with pytest.raises(TraceError, match=r"trace:1: hash_ids: 10 ids for 640 .*_caching: false"):
        read_trace(path)
    assert read_trace(path, prefixes=False).prefixes is None
    told = read_trace(path, block_tokens=64).prefixes
    assert told is not None
    assert told.ends.tolist() == [*range(64, 641, 64), 64]
    with pytest.raises(TraceError, match=r"trace:1: hash_ids: 10 ids .* at most one per 128"):
        read_trace(path, block_tokens=128)


def test_prompts_that_are_told_token_by_token(written):
    system = list(range(100, 132))
    records = [
        {"input_toks": 40, "output_toks": 3, "arrival_time_ns": i, "input_tok_ids": system + tail}
        for i, tail in enumerate(([1] * 8, [2] * 8))
    ]
    prefixes = read_trace(written(lines(*records))).prefixes
    assert prefixes is not None
    assert prefixes.offsets.tolist() == [0, 2, 4]
    assert prefixes.streams.tolist() == [0, 1, 0, 1]
    assert prefixes.ends.tolist() == [16, 32, 16, 32]


def test_results_without_start_times_are_lengths(written):
    path = written(json.dumps({key: value for key, value in BENCH.items() if key != "start_times"}))
    assert [column.tolist() for column in read_lengths(path)] == [[10, 12], [4, 5]]
    with pytest.raises(TraceError, match=r"vllm_bench_lengths holds lengths without arrival times"):
        read_trace(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([{"id": "a", "conversations": []}]), "ShareGPT hold text, whose length in"),
        (lines({"timestamp": 1, "text_input": "hi", "output_length": 4}), "text_input holds text"),
        (
            lines({"session_id": "a", "input_length": 5, "output_length": 4, "delay": 2}),
            "holds lengths without arrival times",
        ),
        (lines({"session_id": "s", "arrival_time_ns": 0, "sub_requests": []}), "holds no rows"),
        (
            lines(
                {"session_id": "a", "timestamp": 0, "input_length": 5, "output_length": 4},
                {"session_id": "a", "input_length": 15, "output_length": 4, "delay": 2},
            ),
            "asked after the answer before, expected trace_sessions",
        ),
        ("0,0.1,0,Gamma,0.3,0.2\n600,0,0,,0,0\n", "windows of a ServeGen client"),
        (json.dumps({"0": {"input_tokens": "{5: 1.0}", "output_tokens": "{5: 1.0}"}}), "windows"),
        (json.dumps({"benchmarks": [{"metrics": {}}]}), "a benchmark without requests"),
        (json.dumps({**BENCH, "output_lens": [1]}), "columns differ in length: start_times 3, inp"),
        (json.dumps({"resourceSpans": [{"scopeSpans": [3]}]}), "are not as OTLP/JSON has them"),
    ],
)
def test_what_is_known_and_cannot_be_replayed(written, text, message):
    with pytest.raises(TraceError, match=message):
        read_trace(written(text))
