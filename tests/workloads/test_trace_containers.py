"""One trace in every container, encoding and shape reads the same; what is none is refused."""

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tries import tries
from workloads.traces import TraceError, containers, json_files, read_trace, rows

TABLE = "arrival_s,prompt_tokens,output_tokens\n0,300,21\n2.5,310,22\n9.125,1450,3\n"
TIMES, PROMPTS, OUTPUTS = [0, 2.5, 9.125], [300, 310, 1450], [21, 22, 3]


def through_arrow(data, codec):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def zipped(**members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


CONTAINERS = {
    "as it is": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: through_arrow(data, "zstd"),
    "lz4": lambda data: through_arrow(data, "lz4"),
    "zip": lambda data: zipped(trace=data),
    "gzip in zip": lambda data: zipped(trace=gzip.compress(data)),
    "gzip of two members": lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
}


def saved(frame, write):
    sink = io.BytesIO()
    write(frame, sink)
    return sink.getvalue()


def separated(by, decimal="."):
    return lambda frame: frame.to_csv(index=False, sep=by, decimal=decimal).encode()


SHAPES = {
    "commas": separated(","),
    "semicolons": separated(";"),
    "semicolons and decimal commas": separated(";", ","),
    "a line for spreadsheets": lambda frame: b"sep=;\r\n" + separated(";")(frame),
    "tabs": separated("\t"),
    "bars": separated("|"),
    "whole numbers as floats": lambda frame: frame.astype(float).to_csv(index=False).encode(),
    "quoted lines": lambda frame: frame.assign(text='a "b"\nc').to_csv(index=False).encode(),
    "blank lines": lambda frame: b"\n \n" + separated(",")(frame).replace(b"\n", b"\n\n"),
    "rows of separators": lambda frame: separated(",")(frame) + b",,\n",
    "CRLF": lambda frame: separated(",")(frame).replace(b"\n", b"\r\n"),
    "CR": lambda frame: separated(",")(frame).replace(b"\n", b"\r"),
    "UTF-8 with a mark": lambda frame: frame.to_csv(index=False).encode("utf-8-sig"),
    "UTF-16": lambda frame: frame.to_csv(index=False).encode("utf-16"),
    "UTF-16 without a mark": lambda frame: frame.to_csv(index=False).encode("utf-16-be"),
    "Latin-1": lambda frame: frame.assign(é="ü").to_csv(index=False).encode("latin-1"),
    "other case and blanks": lambda frame: separated(",")(frame).replace(
        b"arrival_s,prompt_tokens,output_tokens", b"Arrival S, Prompt-Tokens ,OUTPUT_TOKENS"
    ),
    "JSON lines": lambda frame: frame.to_json(orient="records", lines=True).encode(),
    "a JSON array": lambda frame: frame.to_json(orient="records").encode(),
    "an indented JSON array": lambda frame: frame.to_json(orient="records", indent=2).encode(),
    "a JSON array, a record a line": lambda frame: (
        b"[\n" + SHAPES["JSON lines"](frame).strip().replace(b"\n", b",\n") + b"\n]\n"
    ),
    "a list under a key, a record a line": lambda frame: (
        b'{"requests": [\n' + SHAPES["JSON lines"](frame).strip().replace(b"\n", b",\n") + b"\n]}"
    ),
    "JSON columns": lambda frame: json.dumps(frame.to_dict("list")).encode(),
    "JSON columns by row": lambda frame: frame.to_json().encode(),
    "a list under a key": lambda frame: json.dumps(
        {"made": "today", "requests": frame.to_dict("records")}
    ).encode(),
    "Parquet": lambda frame: saved(frame, pd.DataFrame.to_parquet),
    "Parquet of floats": lambda frame: saved(frame.astype(float), pd.DataFrame.to_parquet),
    "Parquet of decimals": lambda frame: saved(
        frame.astype(str).map(Decimal), pd.DataFrame.to_parquet
    ),
    "Parquet of texts": lambda frame: saved(frame.astype(str), pd.DataFrame.to_parquet),
    "Feather": lambda frame: saved(frame, pd.DataFrame.to_feather),
}
FRAMES = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 2**53), st.integers(1, 10**6)),
    min_size=1,
    max_size=5,
)


def put(folder, data, name="trace"):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def check(path, times, prompts, outputs):
    requests = read_trace(path)
    np.testing.assert_allclose(requests.arrival_s, times, rtol=0, atol=1e-9)
    assert requests.prompt_tokens.tolist() == prompts
    assert requests.output_tokens.tolist() == outputs


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ["trace", "TRACE.CSV", "trace.json.gz"])
def test_a_container_is_told_by_its_bytes(tmp_path, container, name):
    path = put(tmp_path, CONTAINERS[container](TABLE.encode()), name)
    check(path, TIMES, PROMPTS, OUTPUTS)
    packing = container.removesuffix(" of two members")
    told = "(CSV)" if container == "as it is" else f"(CSV in {packing})"
    assert told in read_trace(path).notes[0]


@given(rows=FRAMES, shape=st.sampled_from(sorted(SHAPES)), container=st.sampled_from(["xz", "zip"]))
@tries(150)
def test_every_shape_reads_what_was_written(folder, rows, shape, container):
    rows = sorted(rows)
    frame = pd.DataFrame(rows, columns=["arrival_s", "prompt_tokens", "output_tokens"])
    frame["arrival_s"] = (frame["arrival_s"] - rows[0][0]) / 1000
    data = SHAPES[shape](frame)
    if "float" in shape:
        frame["prompt_tokens"] = frame["prompt_tokens"].astype(float).astype(int)
    expected = [frame[name].tolist() for name in frame.columns]
    check(put(folder, data), *expected)
    check(put(folder, CONTAINERS[container](data)), *expected)


@given(rows=FRAMES, zero=st.booleans())
def test_whole_columns_and_single_rows_read_alike(folder, rows, zero):
    """The fast way, and the thorough one that a single uncommon number asks for."""
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    lines = [f"{time / 1000},GPT-4,{prompt},{output},9,API log" for time, prompt, output in rows]
    lines += ["0.5,GPT-4,0,0,0,API log"] * zero
    fast = read_trace(put(folder, "\n".join([head, *lines]).encode()))
    lines[0] = lines[0].replace(f",{rows[0][1]},", f",{rows[0][1]}.0,")
    thorough = read_trace(put(folder, "\n".join([head, *lines]).encode()))
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "notes"):
        assert np.array_equal(getattr(fast, name), getattr(thorough, name))


DATES = [
    ("2024-05-12 00:00:00.25", "2024-05-12 00:00:01.75"),
    ("2024-05-12 00:00:00.250000000", "2024-05-12 00:00:01.750000000"),
    ("2024-05-12T00:00:00.250Z", "2024-05-12T00:00:01.750Z"),
    ("2024-05-12 00:00:00.25+00:00", "2024-05-12 02:00:01.75+02:00"),
    ("2024-05-12 00:00:00.25 UTC", "2024-05-12 00:00:01.75 UTC"),
    ("2024-05-12 00:00:00.25 +0530", "2024-05-12 00:00:01.75 +05:30"),
]


@pytest.mark.parametrize("dates", DATES)
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_dates_with_and_without_zones(tmp_path, dates, between):
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens", f"{dates[0]},5,6", f"{dates[1]},7,8"]
    check(put(tmp_path, between.join(lines).encode()), [0, 1.5], [5, 7], [6, 8])


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_dates_of_parquet(tmp_path, zone):
    times = pd.to_datetime(["2024-05-12 00:00:00.25", "2024-05-12 00:00:01.75"]).tz_localize(zone)
    table = {"TIMESTAMP": times, "ContextTokens": [5, 7], "GeneratedTokens": [6, 8]}
    path = put(tmp_path, saved(pd.DataFrame(table), pd.DataFrame.to_parquet))
    check(path, [0, 1.5], [5, 7], [6, 8])


PARQUET = SHAPES["Parquet"](pd.read_csv(io.StringIO(TABLE)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is blank or empty, expected a header and rows"),
        (b"\0" * 5000, "is binary and of no known kind"),
        (bytes(range(256)) * 20, "is binary and of no known kind"),
        (b"\x1b[31mred,a\n1,2\n", r"no known trace format: \?\[31mred, a"),
        (b"<!DOCTYPE html>\n<html>", "is a web page, expected a table or JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"SQLite format 3\0", "is an SQLite database"),
        (zipped(a=b"x", b=b"y"), "is a zip of 2 files, expected a zip of exactly one"),
        (zipped(), "is a zip of 0 files"),
        (zipped(**{"[Content_Types].xml": b"x", "sheet": b"y"}), "is an xlsx of 2 files"),
        (gzip.compress(gzip.compress(gzip.compress(b"x"))), "is packed more than 2 times"),
        (gzip.compress(TABLE.encode())[:-9], "cannot be read: Compressed file ended before"),
        (lzma.compress(TABLE.encode())[:-30], "cannot be read: "),
        (through_arrow(TABLE.encode(), "zstd")[:-9], "cannot be read: |is blank"),
        (PARQUET[: len(PARQUET) // 2], "cannot be read: "),
        (b"[" * 100_000, "trace:1: not JSON to be read: nesting too deep"),
        (b'[{"a": 1}, {"a":', "trace:1: not JSON: Expecting value"),
        (b"[]", "trace: holds no rows"),
        (
            b'{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}\n[3]\n',
            "'3', expected",
        ),
        (TABLE.encode() + b"1" * 17_000_000, "trace:5: a line of more than 16,777,216 characters"),
        (b"a,b\rc,d\n1,2\n", "the header cannot be read: new-line character seen in unquoted"),
        (b"x" * 17_000_000, "the first line has more than 16,777,216 bytes"),
    ],
    ids=lambda each: each if isinstance(each, str) else "file",  # bytes of gzip hold the time
)
def test_what_cannot_be_read_is_refused_in_words(tmp_path, data, message):
    with pytest.raises(TraceError, match=message) as error:
        read_trace(put(tmp_path, data))
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 1000


@given(data=st.data())
@tries(80)
def test_a_damaged_file_is_read_or_refused(folder, data):
    whole = bytearray(data.draw(st.sampled_from([PARQUET, TABLE.encode(), gzip.compress(PARQUET)])))
    for _ in range(3):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert complaint_of(put(folder, bytes(whole))).isprintable()


def complaint_of(path):
    """What a file is refused with; nothing if it is read."""
    try:
        read_trace(path)
    except TraceError as error:
        return str(error)
    return ""


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "it is a pipe or a device, expected a regular file"),
        ("/dev/zero", "it is a pipe or a device, expected a regular file"),
        (tmp_path, "it is a directory, expected a file"),
        ("a\0b", "no such file"),
    ):
        with pytest.raises(TraceError, match=message):
            read_trace(path)


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = put(tmp_path, gzip.compress(TABLE.encode() + b"9,5,5\n" * 100_000))
    monkeypatch.setattr(rows, "MOST_ROWS", 50_000)
    with pytest.raises(TraceError, match="holds more than 50,000 rows"):
        read_trace(path)
    monkeypatch.setattr(containers, "MOST_BYTES", 200_000)
    with pytest.raises(TraceError, match=r"trace: holds more than .* GiB unpacked"):
        read_trace(path)
    monkeypatch.setattr(json_files, "MOST_DOCUMENT_BYTES", 2**20)
    path = put(tmp_path, b'{"requests": [' + b'{"a": 1},\n' * 15_000 + b'{"a": 1}]}')
    read = pytest.raises(TraceError, match="trace: columns of no known trace format: a")
    with read:
        read_trace(path)
    monkeypatch.setattr(json_files, "MOST_DOCUMENT_BYTES", 100_000)
    with pytest.raises(TraceError, match="holds a JSON document of more than 0 MiB"):
        read_trace(path)


def test_lengths_without_an_end_are_told(tmp_path):
    table = f"arrival_s,prompt_tokens,output_tokens\n0,10,{2**63 - 1}\n1,10,5\n"
    requests = read_trace(put(tmp_path, table.encode()))
    assert requests.output_tokens.tolist() == [2**53, 5]
    assert "read as 2^53 tokens: 1 length beyond that" in requests.notes[0]
