"""Tables of requests that no program writes, by the names that people give their columns."""

import re
from pathlib import Path

import numpy as np
import pytest

from workloads.lengths import Lengths
from workloads.streams import stream
from workloads.traces import TraceError, read_trace


def written(folder: Path, text: str) -> Path:
    path = folder / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "header",
    [
        "timestamp,prompt_tokens,completion_tokens",
        "timestamp,prompt_tokens,output_tokens",
        "Arrival Time,input tokens,Output-Tokens",
        "created_at,isl,osl,model",
    ],
)
def test_dates_and_usual_names_need_nothing_else(tmp_path: Path, header: str) -> None:
    more = ",x" if header.count(",") == 3 else ""
    rows = f"2026-10-01 12:00:00.5,308,135{more}\n2026-10-01 12:00:02,1891,246{more}\n"
    found = read_trace(written(tmp_path, f"{header}\n{rows}"))
    np.testing.assert_allclose(found.arrival_s, [0, 1.5])
    assert found.prompt_tokens.tolist() == [308, 1891]
    assert found.output_tokens.tolist() == [135, 246]
    assert found.notes[0].startswith("log.csv: format table (CSV), 2 requests over 1.5 s")


def test_of_numbers_nobody_knows_the_unit(tmp_path: Path) -> None:
    path = written(tmp_path, "time,input_tokens,output_tokens\n0,5,6\n250,7,8\n")
    with pytest.raises(TraceError, match=r"time holds numbers, expected workload\.trace_time_unit"):
        read_trace(path)
    np.testing.assert_allclose(read_trace(path, time_unit="ms").arrival_s, [0, 0.25])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "timestamp,arrival_time,input_tokens,output_tokens",
            "several columns could be the times (timestamp, arrival_time); rename all but one",
        ),
        (
            "Time,prompt_len,input_tokens,osl,Tokens-Out",
            "several columns could be the prompt tokens (prompt_len, input_tokens) and the output "
            "tokens (osl, Tokens-Out); rename all but one of each",
        ),
        ("isl,context_tokens,osl", "could be the prompt tokens (isl, context_tokens); rename all"),
    ],
)
def test_what_could_be_meant_twice_is_told(tmp_path: Path, header: str, words: str) -> None:
    row = ",".join("1" for _ in header.split(","))
    path = written(tmp_path, f"{header}\n{row}\n")
    for name in ("auto", "table"):
        with pytest.raises(TraceError, match=re.escape(words)):
            read_trace(path, format=name)


@pytest.mark.parametrize("header", ["timestamp,input_tokens,tokens", "time,date,input_tokens"])
def test_where_lengths_are_missing_that_is_told(tmp_path: Path, header: str) -> None:
    row = ",".join("1" for _ in header.split(","))
    with pytest.raises(TraceError, match="columns of no known trace format"):
        read_trace(written(tmp_path, f"{header}\n{row}\n"))


def test_a_format_that_is_known_goes_first(tmp_path: Path) -> None:
    path = written(tmp_path, "timestamp,input_length,output_length\n0,5,6\n250,7,8\n")
    assert "format mooncake" in read_trace(path).notes[0]


def test_lengths_alone_can_be_drawn_from(tmp_path: Path) -> None:
    path = written(tmp_path, "input_tokens,generated_tokens\n5,6\n7,8\n")
    prompts, outputs = Lengths(trace=str(path)).sample(50, stream(1, "lengths"))
    assert set(zip(prompts.tolist(), outputs.tolist(), strict=True)) == {(5, 6), (7, 8)}
    with pytest.raises(TraceError, match="holds lengths without arrival times"):
        read_trace(path)
