"""Broken traces: each is refused with FILE:LINE, the column, the value and what was expected."""

import gzip
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.traces import TraceError, read_lengths, read_trace

HEADERS = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens",
    "burst": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
    "splitwise": (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size"
    ),
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens",
}
GOOD = {
    "azure": "2023-11-16 18:15:46.6805900,374,44",
    "burst": "5,ChatGPT,472,18,490,API log",
    "splitwise": "0,2,0,0.25,1,100,10",
    "vidur": "0.5,591,140",
}
WHOLE = "expected a whole number of at least 1"


def written(tmp_path, text, name="trace.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("azure", "2023-11-16 18:15:46.68,374", "2 fields, expected 3 (TIMESTAMP,ContextTokens,"),
        ("azure", "2023-11-16 18:15:46.68,374,4,9", "4 fields, expected 3 (TIMESTAMP,"),
        ("azure", "yesterday,374,44", "TIMESTAMP = 'yesterday', expected a time such as 2024-05"),
        ("azure", "2023-13-16 18:15:46,374,44", "TIMESTAMP = '2023-13-16 18:15:46', expected"),
        ("azure", "2023-11-16 18:15:46+00:00,1,1", "TIMESTAMP = '2023-11-16 18:15:46+00:00'"),
        ("azure", "2023-11-16 18:15:46,many,44", f"ContextTokens = 'many', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,,44", f"ContextTokens = '', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,0,44", f"ContextTokens = '0', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,12.5,44", f"ContextTokens = '12.5', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,1,0", f"GeneratedTokens = '0', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,1,-3", f"GeneratedTokens = '-3', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,1,NaN", f"GeneratedTokens = 'NaN', {WHOLE}"),
        ("azure", "2023-11-16 18:15:46,1,9" + "0" * 30, "GeneratedTokens = '90000"),
        ("burst", "nan,ChatGPT,472,18,490,API log", "Timestamp = 'nan', expected a finite number"),
        ("burst", "-5,ChatGPT,472,18,490,API log", "Timestamp = '-5', expected a finite number"),
        ("burst", "inf,ChatGPT,472,18,490,API log", "Timestamp = 'inf', expected a finite number"),
        ("burst", "5,ChatGPT,0,18,490,API log", f"Request tokens = '0', {WHOLE}"),
        ("burst", "5,ChatGPT,1,-1,490,API log", "Response tokens = '-1', expected a whole number "
         "of at least 0"),
        ("splitwise", "0,2,0,0.25,4,100,10", "batch_size = '4', expected 1"),
        ("splitwise", "0,2,0,soon,1,100,10", "arrival_timestamp = 'soon', expected a finite"),
        ("vidur", "0.5,0,140", f"num_prefill_tokens = '0', {WHOLE}"),
        ("vidur", "0.5", "1 fields, expected 3"),
        ("vidur", "0.5,0x10,140", f"num_prefill_tokens = '0x10', {WHOLE}"),
        ("vidur", "0.5,1_000,140", f"num_prefill_tokens = '1_000', {WHOLE}"),
        ("vidur", "0.5,1.000,140", f"num_prefill_tokens = '1.000', {WHOLE}"),
        ("vidur", f"0.5,{2**63},1", f"num_prefill_tokens = '{2**63}', {WHOLE} and at most 2^63-1"),
        ("vidur", "0.5,1e3,140", f"num_prefill_tokens = '1e3', {WHOLE}"),
        ("vidur", "0x1,5,140", "arrived_at = '0x1', expected a finite number"),
        ("azure", "9999-11-16 18:15:46,1,1", "TIMESTAMP = '9999-11-16 18:15:46', expected"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_line_column_and_value(tmp_path, form, row, message):
    rows = [HEADERS[form], GOOD[form], "", GOOD[form], row, "worse still"]
    path = written(tmp_path, "\n".join(rows) + "\n")
    with pytest.raises(TraceError, match=re.escape(f"{path}:5: {message}")):
        read_trace(path)


def test_the_first_of_many_bad_lines_is_named(tmp_path):
    rows = [HEADERS["vidur"], *[GOOD["vidur"]] * 70_000, "1,2", *[GOOD["vidur"]] * 10, "x,y,z"]
    with pytest.raises(TraceError, match=r"trace\.csv:70002: 2 fields, expected 3"):
        read_trace(written(tmp_path, "\n".join(rows)))


@given(
    rows=st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1)
)
def test_a_trace_is_read_or_its_first_bad_line_is_named(tmp_path_factory, rows):
    lines = [",".join(map(str, row)) for row in rows]
    path = written(tmp_path_factory.getbasetemp(), "\n".join([HEADERS["vidur"], *lines]))
    bad = [i for i, (time, prompt, output) in enumerate(rows) if time < 0 or not prompt * output]
    if bad:
        with pytest.raises(TraceError, match=re.escape(f"{path}:{bad[0] + 2}: ")):
            read_trace(path)
    else:
        assert len(read_trace(path)) == len(rows)


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("vidur", "1e308,5,140", "arrived_at = '1e+308' is more than ten years after the earliest"),
        ("azure", "2034-11-16 18:15:46,1,1", "TIMESTAMP = '2034-11-16T18:15:46.000000000' is more"),
        ("burst", "1735689600,M,1,1,2,API log", "Timestamp = '1735689600.0' is more than ten"),
    ],
)
def test_a_trace_of_more_than_ten_years_is_refused(tmp_path, form, row, message):
    rows = [HEADERS[form], GOOD[form].replace(",18,", ",0,"), "", GOOD[form], row]
    path = written(tmp_path, "\n".join(rows) + "\n")
    with pytest.raises(TraceError, match=re.escape(f"{path}:5: {message}")):
        read_trace(path)


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (
            "prompt_id",
            ["0,5,5,1", "1,900,5,1"],
            "prompt_id = 1 has 900 prompt tokens here and",
        ),
        (
            "prompt_id,prefix_id,prefix_tokens",
            ["0,5,5,1,1,2", "1,900,5,1,1,2"],
            "prompt_id = 1 has 900 prompt tokens here and 5 in an earlier row",
        ),
        ("prefix_id,prefix_tokens", ["0,5,5,1,5", "1,9,5,1,10"], "prefix_tokens = 10, expected at"),
    ],
)
def test_identities_that_contradict_lengths(tmp_path, columns, rows, message):
    head = f"arrival_s,prompt_tokens,output_tokens,{columns}"
    path = written(tmp_path, "\n".join([head, *rows]))
    with pytest.raises(TraceError, match=re.escape(f"{path}:3: {message}")):
        read_trace(path)


def test_zones_must_be_the_same_throughout(tmp_path):
    rows = [HEADERS["azure"], "2024-05-10 00:00:00+00:00,1,1", "2024-05-10 00:00:01,1,1"]
    with pytest.raises(TraceError, match=r"csv:3: TIMESTAMP = .*0099300\+00:00, like the first"):
        read_trace(written(tmp_path, "\n".join(rows)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trace.csv: is blank or empty, expected a header and rows"),
        ("\n\n", "trace.csv: is blank or empty, expected a header and rows"),
        (HEADERS["azure"] + "\n", "trace.csv: holds no rows"),
        (
            HEADERS["burst"] + "\n5,GPT-4,9,0,9,API log\n",
            "csv: every row is left out: 1 failed",
        ),
        (HEADERS["vidur"] + ",arrived_at\n1,2,3,4\n", "column 'arrived_at' must be in the header "),
        ("TIMESTAMP,ContextToken,GeneratedTokens\n", "nearest: azure, lacking ContextTokens"),
        (
            "arival_s,prompt_token,output_tokens\n0,1,2\n",
            "nearest: headroom, lacking arrival_s (is it arival_s?), prompt_tokens (is it ",
        ),
        ("a,b,c\n1,2,3\n", "trace.csv:1: columns of no known trace format: a, b, c. Expected"),
        ("0,1,2\n1,2,3\n", "trace.csv:1: holds windows of a ServeGen client (start, rate, cv, .."),
    ],
)
def test_files_that_hold_no_trace(tmp_path, text, message):
    path = written(tmp_path, text)
    for reader in (read_trace, read_lengths):
        with pytest.raises(TraceError, match=re.escape(message)):
            reader(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"timestamp": 1, "input_length": 5', "Expecting"),
        ("[1, 2]", "expected a JSON object"),
        ('{"timestamp": 1, "input_length": 5}', "output_length is missing"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 5}', "timestamp = '-1', expected"),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 5}', "timestamp = 'nan'"),
        ('{"timestamp": "1_0", "input_length": 5, "output_length": 5}', "timestamp = '1_0'"),
        ('{"timestamp": 1, "input_length": 0, "output_length": 5}', f"input_length = '0', {WHOLE}"),
        ('{"timestamp": 1, "input_length": true, "output_length": 5}', "input_length = 'True'"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 0}', "output_length = '0'"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 5}', "hash_ids must be in every"),
        (
            '{"timestamp": 1, "input_length": 512, "output_length": 5, "hash_ids": [1, 2]}',
            "hash_ids: 2 ids for 512 prompt tokens are not one per 512, and no other size of a ",
        ),
        (
            '{"timestamp": 1, "input_length": 512, "output_length": 5, "hash_ids": [2.5]}',
            "hash_ids = '[2.5]', expected a list of",
        ),
        (
            '{"timestamp": 1, "input_length": 512, "output_length": 5, "hash_ids": "ab"}',
            "hash_ids = 'ab', expected",
        ),
    ],
)
def test_bad_json_lines(tmp_path, line, message):
    good = '{"timestamp": 0, "input_length": 512, "output_length": 5, "hash_ids": [1]}'
    path = written(tmp_path, f"{good}\n\n{line}\n", "m.jsonl")
    with pytest.raises(TraceError, match=re.escape(f"{path}:3: ") + ".*" + re.escape(message)):
        read_trace(path)


def test_files_that_cannot_be_opened(tmp_path):
    written(tmp_path, "x", "azure_conv.csv")
    with pytest.raises(TraceError, match=r"no such file; nearest in that folder: azure_conv\.csv"):
        read_trace(tmp_path / "azure_con.csv")
    with pytest.raises(TraceError, match=r"gone/x\.csv: no such file$"):
        read_trace(tmp_path / "gone" / "x.csv")
    with pytest.raises(TraceError, match=r"cannot be read: .*directory"):
        read_trace(tmp_path)
    whole = gzip.compress("\n".join([HEADERS["vidur"], *[GOOD["vidur"]] * 5000]).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "cut.csv.gz")


def test_a_line_too_long_to_look_into_is_still_an_error(tmp_path):
    path = written(tmp_path, HEADERS["vidur"] + ",note\n1,2,x," + "a" * 17_000_000 + "\n")
    with pytest.raises(TraceError, match=r"csv:2: a line of more than 16,777,216 characters"):
        read_trace(path)
