"""Rows of JSON lines that are looked at together: the same columns and errors as one by one."""

from typing import Any

import numpy as np
import pytest

from tests.workloads.trace_files import lines, mooncake
from workloads.traces import TraceError, read_trace, rows
from workloads.traces.json_files import LOOKED_AT


def sound(count: int) -> list[dict[str, Any]]:
    return [mooncake(10 * n, 512 + n, 1 + n, [n % 7, 7 + n]) for n in range(count)]


@pytest.fixture(params=[1, 3, 8, 4096])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", request.param)


@pytest.mark.usefixtures("together")
def test_rows_of_every_kind_are_read_alike(tmp_path):
    records = sound(20)
    records[4]["input_length"] = "516"
    records[5]["output_length"] = 6.0
    records[6]["timestamp"] = 60.5
    records[7]["timestamp"] = "70"
    records[11]["input_length"] = 2**70
    path = tmp_path / "trace.jsonl"
    with pytest.raises(TraceError, match=r":12: input_length = .*at most 2\^63-1"):
        read_trace((path.write_text(lines(*records)), path)[1])
    records[11]["input_length"] = 523
    path.write_text(lines(*records))
    requests = read_trace(path)
    assert requests.prompt_tokens.tolist() == list(range(512, 532))
    assert requests.output_tokens.tolist() == list(range(1, 21))
    expected = 0.01 * np.arange(20)
    expected[6] = 0.0605
    np.testing.assert_allclose(requests.arrival_s, expected)
    assert requests.prefixes is not None


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (2, {"input_length": 0}, ":3: input_length = '0', expected a whole number of at least 1"),
        (9, {"input_length": True}, ":10: input_length = "),
        (9, {"output_length": 1.5}, ":10: output_length = '1.5'"),
        (10, {"timestamp": -1}, ":11: timestamp = '-1'"),
        (10, {"timestamp": float("nan")}, ":11: timestamp = 'nan'"),
        (10, {"timestamp": 10**301}, ":11: timestamp = "),
        (11, {"hash_ids": [1, "a"]}, ":12: hash_ids = "),
        (11, {"hash_ids": None}, ":12: hash_ids = "),
    ],
)
def test_the_first_malformed_row_is_named(tmp_path, row, change, message):
    records = sound(LOOKED_AT + 16)
    records[row] |= change
    records[13]["input_length"] = -5  # a later one
    path = tmp_path / "trace.jsonl"
    path.write_text(lines(*records) + "{broken\n")
    with pytest.raises(TraceError) as error:
        read_trace(path)
    assert message in str(error.value)


@pytest.mark.usefixtures("together")
def test_what_is_missing_is_named_before_what_is_no_json(tmp_path):
    records = sound(LOOKED_AT + 12)
    del records[8]["output_length"]
    path = tmp_path / "trace.jsonl"
    path.write_text(lines(*records) + "{broken\n" + lines(*records[:1]))
    with pytest.raises(TraceError, match=":9: output_length is missing, expected a whole"):
        read_trace(path)
    records[8]["output_length"] = 9
    path.write_text(lines(*records) + "{broken\n" + lines(*records[:1]))
    with pytest.raises(TraceError, match=f":{LOOKED_AT + 13}: not JSON"):
        read_trace(path)


@pytest.mark.usefixtures("together")
def test_identities_are_in_every_row_or_in_none(tmp_path):
    records = sound(12)
    del records[6]["hash_ids"]
    path = tmp_path / "trace.jsonl"
    path.write_text(lines(*records))
    with pytest.raises(TraceError, match=":7: hash_ids must be in every row or in none"):
        read_trace(path)
