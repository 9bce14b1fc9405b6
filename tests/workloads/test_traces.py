"""Every trace format as the test writes it, and the rules of order, window, limit and scale."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.traces import TraceError, read_lengths, read_trace

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 23:59:59.009930+00:00,2162,5
2024-05-11 00:00:00+00:00,2399,6
2024-05-11 02:00:00.5+02:00,76,15
"""
BURST_V1 = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
50,GPT-4,0,0,0,Conversation log
60,GPT-4,35,0,35,API log
118,GPT-4,417,276,693,Conversation log
"""
BURST_V2 = """Timestamp,Session ID,Elapsed time,Model,\
Request tokens,Response tokens,Total tokens,Log Type
19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log
19440161.5,,2,ChatGPT,36,29,65,API log
"""
MOONCAKE = """{"timestamp": 100, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}

{"timestamp": 3100, "input_length": 512, "output_length": 6, "hash_ids": [9]}
{"timestamp": 2100.5, "input_length": 1025, "output_length": 7, "hash_ids": [0, 4, 5]}
"""
SPLITWISE = """request_id,request_type,application_id,arrival_timestamp,\
batch_size,prompt_size,token_size
0,2,0,0.25,1,100,10
1,2,0,0.75,1,200,20
"""
VIDUR = """arrived_at,num_prefill_tokens,num_decode_tokens
0.0,591,140
0.125,547,248
"""
OURS = """arrival_s,prompt_tokens,output_tokens,note
3,1,2,"a, b"
4.5,3,4,"c"
"""


def written(tmp_path, text, name="trace.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "times", "prompts", "outputs"),
    [
        (AZURE_2023, [0.0, 4.314579, 4.541877], [374, 396, 879], [44, 109, 55]),
        (AZURE_2024, [0.0, 0.99007, 1.49007], [2162, 2399, 76], [5, 6, 15]),
        (BURST_V1, [0.0, 40.0, 113.0], [472, 1087, 417], [18, 230, 276]),
        (BURST_V2, [0.0, 51.5], [906, 36], [446, 29]),
        (SPLITWISE, [0.0, 0.5], [100, 200], [10, 20]),
        (VIDUR, [0.0, 0.125], [591, 547], [140, 248]),
        (OURS, [0.0, 1.5], [1, 3], [2, 4]),
    ],
    ids=["azure2023", "azure2024", "burst1", "burst2", "splitwise", "vidur", "headroom"],
)
def test_every_csv_format(tmp_path, text, times, prompts, outputs):
    requests = read_trace(written(tmp_path, text))
    np.testing.assert_allclose(requests.arrival_s, times, rtol=0, atol=1e-9)
    assert requests.prompt_tokens.tolist() == prompts
    assert requests.output_tokens.tolist() == outputs
    assert requests.priority.tolist() == [0] * len(times)
    assert requests.prefixes is None
    zipped = tmp_path / "trace.csv.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    assert read_trace(zipped).arrival_s.tolist() == requests.arrival_s.tolist()


def test_mooncake_keeps_block_ids_in_order_of_arrival(tmp_path):
    requests = read_trace(written(tmp_path, MOONCAKE, "m.jsonl"))
    assert requests.arrival_s.tolist() == [0.0, 2.0005, 3.0]
    assert requests.prompt_tokens.tolist() == [700, 1025, 512]
    assert requests.output_tokens.tolist() == [5, 7, 6]
    prefixes = requests.prefixes
    assert prefixes is not None
    assert prefixes.offsets.tolist() == [0, 2, 5, 6]
    assert prefixes.streams.tolist() == [0, 1, 0, 3, 4, 2]  # chains, numbered as the file has them
    assert prefixes.ends.tolist() == [512, 700, 512, 1024, 1025, 512]


def test_a_window_cuts_block_ids_too(tmp_path):
    requests = read_trace(written(tmp_path, MOONCAKE, "m.jsonl"), start_s=1.0, limit=1)
    assert requests.arrival_s.tolist() == [0.0]
    assert requests.prefixes is not None
    assert requests.prefixes.offsets.tolist() == [0, 3]
    assert requests.prefixes.ends.tolist() == [512, 1024, 1025]


def test_mooncake_without_block_ids(tmp_path):
    text = '{"timestamp": 0, "input_length": 7, "output_length": 5}\n'
    requests = read_trace(written(tmp_path, text, "m.jsonl"))
    assert requests.prefixes is None


IDENTITIES = """arrival_s,prompt_tokens,output_tokens,prefix_id,prefix_tokens,prompt_id
2,30,1,7,20,1
1,30,1,7,20,2
3,20,1,8,20,1
"""


def test_our_own_format_tells_which_prompts_begin_alike(tmp_path):
    prefixes = read_trace(written(tmp_path, IDENTITIES)).prefixes
    assert prefixes is not None
    assert prefixes.offsets.tolist() == [0, 2, 4, 6]  # in order of arrival
    assert prefixes.streams.tolist() == [0, 3, 0, 2, 1, 4]
    assert prefixes.ends.tolist() == [20, 30, 20, 30, 20, 20]


def test_a_prefix_needs_its_length(tmp_path):
    text = "arrival_s,prompt_tokens,output_tokens,prefix_id\n1,3,1,4\n"
    with pytest.raises(TraceError, match="prefix_id and prefix_tokens belong together"):
        read_trace(written(tmp_path, text))


def test_header_variants_are_read_alike(tmp_path):
    plain = read_trace(written(tmp_path, VIDUR))
    variants = [
        "\ufeff" + VIDUR,
        VIDUR.replace("\n", "\r\n"),
        VIDUR.replace(",num", ", num"),
        VIDUR.replace("arrived_at", '"arrived_at"'),
        VIDUR.replace("\n0.1", "\n\n0.1"),
        VIDUR.rstrip("\n"),
    ]
    for text in variants:
        requests = read_trace(written(tmp_path, text))
        assert requests.arrival_s.tolist() == plain.arrival_s.tolist()
        assert requests.output_tokens.tolist() == plain.output_tokens.tolist()


def test_rows_are_sorted_stably(tmp_path):
    text = "arrival_s,prompt_tokens,output_tokens\n5,1,1\n2,2,1\n5,3,1\n2,4,1\n"
    requests = read_trace(written(tmp_path, text))
    assert requests.arrival_s.tolist() == [0.0, 0.0, 3.0, 3.0]
    assert requests.prompt_tokens.tolist() == [2, 4, 1, 3]


def test_lengths_only_files(tmp_path):
    text = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n74,918,992,0.08\n"
    path = written(tmp_path, text)
    assert [column.tolist() for column in read_lengths(path)] == [[74], [918]]
    with pytest.raises(TraceError, match="vidur_lengths holds lengths without arrival times"):
        read_trace(path)


def test_lengths_of_a_trace_leave_failed_requests_out(tmp_path):
    prompts, outputs = read_lengths(written(tmp_path, BURST_V1))
    assert prompts.tolist() == [472, 1087, 417]
    assert outputs.tolist() == [18, 230, 276]


def test_a_format_can_be_named(tmp_path):
    path = written(tmp_path, VIDUR)
    assert len(read_trace(path, format="vidur")) == 2
    with pytest.raises(TraceError, match="holds lengths without arrival times"):
        read_trace(path, format="vidur_lengths")
    with pytest.raises(TraceError, match=r"format azure needs TIMESTAMP,.*; missing: TIMESTAMP, "):
        read_trace(path, format="azure")
    with pytest.raises(TraceError, match=r"format 'vidurr' is unknown, .*; nearest: vidur"):
        read_trace(path, format="vidurr")


times_ms = st.lists(st.integers(0, 5000), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def write_ms(folder, times):
    rows = "".join(f"{time / 1000},{i},1\n" for i, time in enumerate(times, start=1))
    return written(folder, "arrival_s,prompt_tokens,output_tokens\n" + rows)


@given(
    times=times_ms,
    start=st.none() | st.integers(0, 5000),
    length=st.none() | st.integers(1, 5000),
    limit=st.none() | st.integers(1, 30),
)
def test_window_and_limit_against_an_obvious_reader(folder, times, start, length, limit):
    path = write_ms(folder, times)
    stop = None if length is None else (start or 0) + length
    first = min(times)
    rows = sorted((time - first, i) for i, time in enumerate(times, start=1))
    kept = [row for row in rows if (start or 0) <= row[0] < (stop or 10**9)][:limit]
    # Half a millisecond off the grid, so that rounding cannot decide who is in.
    start_s = None if start is None else max(0.0, start - 0.5) / 1000
    stop_s = None if stop is None else (stop - 0.5) / 1000
    if not kept:
        with pytest.raises(TraceError, match="no request with start_s"):
            read_trace(path, start_s=start_s, stop_s=stop_s, limit=limit)
        return
    requests = read_trace(path, start_s=start_s, stop_s=stop_s, limit=limit)
    assert requests.prompt_tokens.tolist() == [i for _, i in kept]
    expected = [(time - kept[0][0]) / 1000 for time, _ in kept]
    np.testing.assert_allclose(requests.arrival_s, expected, atol=1e-12)


@given(times=times_ms, scale=st.floats(0.01, 100))
def test_scaling_divides_every_time(folder, times, scale):
    path = write_ms(folder, times)
    plain, scaled = read_trace(path), read_trace(path, rate_scale=scale)
    np.testing.assert_array_equal(scaled.arrival_s, plain.arrival_s / scale)
    assert plain.arrival_s[0] == 0.0
    assert scaled.prompt_tokens.tolist() == plain.prompt_tokens.tolist()


def test_the_window_is_half_open(tmp_path):
    path = written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n1,1,1\n2,2,1\n3,3,1\n")
    assert read_trace(path, start_s=1.0, stop_s=2.0).prompt_tokens.tolist() == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate_scale": 0.0}, r"rate_scale\(=0\.0\) must be > 0 and finite"),
        ({"rate_scale": float("nan")}, r"rate_scale\(=nan\) must be > 0"),
        ({"limit": 0}, r"limit\(=0\) must be >= 1"),
        ({"start_s": -1.0}, r"start_s\(=-1\.0\) must be >= 0"),
        ({"start_s": 2.0, "stop_s": 2.0}, r"stop_s\(=2\.0\) must be > start_s\(=2\.0\)"),
        ({"start_s": 9.0}, r"no request with start_s\(=9\.0\) .*; the trace ends at 0\.125 s"),
    ],
)
def test_senseless_windows_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_trace(written(tmp_path, VIDUR), **arguments)
