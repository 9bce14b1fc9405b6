"""Results of clients with missing or odd values are read, or refused with the key; nothing else."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.study.errors import StudyError
from experiments.validation.lengths import WHOLE, length_law
from experiments.validation.result_values import BrokenResultError, count, number, positive, spread
from experiments.validation.rows import RunRow, read_table
from experiments.validation.settings import setup_of
from experiments.validation.traffic import CannotPredictError
from tests.experiments.test_client_results import AIPERF, DETAILS, GUIDELLM, VLLM, write
from tests.experiments.test_more_clients import SGLANG, STAGE

SAMPLES = {"vllm": VLLM, "guidellm": GUIDELLM, "aiperf": AIPERF, "sglang": SGLANG, "stage": STAGE}
GIVEN = {"gpu": "h100", "model": "llama-3-8b", "engine_version": "0.11.0"}
ODD: list[Any] = [None, "x", "", True, -1, 0, 1.5, float("nan"), [], ["x"], {}, {"a": 1}]


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON text."""
    inside = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in inside:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(result: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value at a path; without it where the value is ``Ellipsis``."""
    copied = copy.deepcopy(result)
    part = copied
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return copied


@pytest.mark.parametrize("client", SAMPLES)
def test_any_value_is_read_or_refused(client: str, tmp_path: Path) -> None:
    """Whatever stands somewhere in a result: rows come of it, reasons, or one error."""
    path, read = tmp_path / "result.json", 0
    for place in places(SAMPLES[client]):
        for value in [..., *ODD]:
            write(path, changed(SAMPLES[client], place, value))
            try:
                table = read_table(path, GIVEN)
            except StudyError:
                continue
            assert table.runs or table.unreadable
            read += 1
    assert read > 50


def row_of(path: Path, result: dict[str, Any]) -> RunRow:
    write(path, result)
    return read_table(path, GIVEN).runs[0].base


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"completed": "all"}, "completed = all, expected a number"),
        ({"num_prompts": 4.5}, "num_prompts = 4.5, expected a whole number of at least 0"),
        ({"mean_ttft_ms": -3}, "mean_ttft_ms = -3, expected at least 0"),
        ({"request_rate": None}, "request_rate is missing, expected a number or inf"),
        ({"output_lens": 12}, "output_lens = 12, expected a list"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    write(tmp_path / "bench.json", VLLM | changes)
    with pytest.raises(StudyError, match=f"bench.json: {told}"):
        read_table(tmp_path / "bench.json", GIVEN)


def test_a_broken_result_is_not_left_out_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a" / "good.json", VLLM)
    write(tmp_path / "a" / "settings.json", {"not": "a result"})
    assert len(read_table(tmp_path, GIVEN).runs) == 1
    write(tmp_path / "a" / "bad.json", VLLM | {"completed": "all"})
    with pytest.raises(StudyError, match=r"a/bad.json: completed = all"):
        read_table(tmp_path, GIVEN)


def test_values_that_say_nothing() -> None:
    assert number({"a": None, "b": float("nan"), "c": 2}, "a", "b", "c") == 2
    assert positive({"a": 0.0}, "a") is None
    assert count({}, "a") is None
    with pytest.raises(BrokenResultError, match="a = true, expected a number"):
        number({"a": True}, "a")
    assert (spread(100.0, None), spread(100.0, 0.4), spread(100.0, 2.0)) == (None, "fixed", "std 2")


def test_a_mean_of_nothing_is_no_measurement(tmp_path: Path) -> None:
    row = row_of(tmp_path / "bench.json", VLLM | {"mean_tpot_ms": float("nan"), "mean_itl_ms": 0.0})
    assert not {"tpot_mean_ms", "itl_mean_ms"} & {*row.measured}


def test_recorded_requests_need_no_rate(tmp_path: Path) -> None:
    row = row_of(tmp_path / "bench.json", VLLM | DETAILS | {"request_rate": None})
    assert row.per_request_file is not None
    assert row.request_rate_rps is None


def test_sglangs_random_lengths_are_uniform_up_to_the_longest(tmp_path: Path) -> None:
    drawn = {"random_input_len": 1024, "random_output_len": 256, "random_range_ratio": 0.5}
    row = row_of(tmp_path / "a.jsonl", SGLANG | drawn)
    assert (row.isl_spec, row.osl_spec) == ("512-1024", "128-256")
    exact = row_of(tmp_path / "b.jsonl", SGLANG | drawn | {"random_range_ratio": 1.0})
    assert (exact.isl_spec, exact.osl_spec) == ("fixed", "fixed")
    each = {"input_lens": [100, 300], "output_lens": [50, 50]}
    listed = row_of(tmp_path / "c.jsonl", SGLANG | drawn | each)
    assert (listed.isl_mean, listed.isl_spec, listed.osl_spec) == (200.0, "std 100", "fixed")


def test_aiperf_names_models_in_several_ways_and_warms_up_beside(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_aiperf.json"
    config = {
        "models": {"items": [{"name": "llama-3-8b"}]},
        "phases": [
            {"name": "warmup", "concurrency": 2},
            {"name": "profiling", "concurrency": 16},
        ],
    }
    write(path, AIPERF | {"input_config": config})
    row = read_table(path, {"gpu": "h100"}).runs[0].base
    assert (row.model, row.max_concurrency, row.closed_loop) == ("llama-3-8b", 16, True)


def test_genai_perf_sends_evenly_and_counts_no_requests(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_genai_perf.json"
    config = {"model": ["llama-3-8b"], "perf_analyzer": {"stimulus": {"request_rate": 4.0}}}
    told = {key: value for key, value in AIPERF.items() if key != "request_count"}
    seconds = {"unit": "sec", "avg": 0.05}
    write(path, told | {"input_config": config, "time_to_first_token": seconds})
    row = read_table(path, {"gpu": "h100"}).runs[0].base
    assert (row.arrival_process, row.request_rate_rps, row.n_requests) == ("constant", 4.0, None)
    assert row.measured["ttft_mean_ms"] == pytest.approx(50.0)
    write(path, told | {"input_config": config, "time_to_first_token": {"unit": "h", "avg": 1}})
    with pytest.raises(StudyError, match="time_to_first_token: unit = h, expected ms"):
        read_table(path, {"gpu": "h100"})


def test_json_of_other_shapes_is_refused(tmp_path: Path) -> None:
    for content in (3, [], [3], {"benchmarks": []}, "text"):
        path = tmp_path / "other.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(StudyError, match=r"other.json: expected a result of vllm bench serve"):
            read_table(path, GIVEN)


def test_a_list_of_results_is_as_many_runs(tmp_path: Path) -> None:
    """As ``vllm bench sweep`` leaves its summary."""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps([VLLM, VLLM | {"request_rate": 9.0}]), encoding="utf-8")
    rows = [run.base for run in read_table(path, GIVEN).runs]
    assert [(row.run_id, row.request_rate_rps) for row in rows] == [
        ("summary-0", VLLM["request_rate"]), ("summary-1", 9.0),
    ]  # fmt: skip
    path.write_text(json.dumps([VLLM, {"prompt": "a"}]), encoding="utf-8")
    with pytest.raises(StudyError, match="several JSON texts, expected vllm bench serve's or"):
        read_table(path, GIVEN)


def test_clients_that_save_no_load_are_named(tmp_path: Path) -> None:
    path = tmp_path / "throughput.json"
    path.write_text('{"elapsed_time": 10.0, "num_requests": 100, "tokens_per_second": 6400.0}')
    with pytest.raises(StudyError, match="vllm bench throughput and latency do not save what"):
        read_table(path, GIVEN)


def test_texts_one_after_the_other(tmp_path: Path) -> None:
    """As SGLang's client and ``--append-result`` leave them."""
    path = tmp_path / "all.jsonl"
    more = [SGLANG, SGLANG | {"request_rate": 9.0}]
    path.write_text("".join(json.dumps(one) + "\n" for one in more), encoding="utf-8")
    rows = [run.base for run in read_table(path, GIVEN).runs]
    assert [(row.run_id, row.request_rate_rps) for row in rows] == [("all-0", 5.0), ("all-1", 9.0)]
    path.write_text(json.dumps(SGLANG) + json.dumps(STAGE), encoding="utf-8")
    with pytest.raises(StudyError, match="several JSON texts, expected vllm bench serve's or"):
        read_table(path, GIVEN)
    packed = tmp_path / "bench.json.gz"
    packed.write_bytes(b"")
    with pytest.raises(StudyError, match="gzipped JSON, expected it unpacked"):
        read_table(packed, GIVEN)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": {"prefix_prompt": {"pool_size": 8, "length": 512}}},
        {"conversation": {"num": 40, "turn": {"mean": 5}}},
        {"prompt": {"shared_system_prompt_length": 800}},
    ],
)
def test_prompts_that_begin_alike_are_not_taken_for_others(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    config = AIPERF["input_config"] | {"input": asked}
    row = row_of(tmp_path / "profile_export_aiperf.json", AIPERF | {"input_config": config})
    with pytest.raises(CannotPredictError, match="begin alike, and the result does not say which"):
        setup_of(row, 1000)
    setup_of(row.model_copy(update={"prefix_caching": "off"}), 1000)
    alone = AIPERF["input_config"] | {"input": {"conversation": {"turn": {"mean": 1}}}}
    setup_of(row_of(tmp_path / "alone.json", AIPERF | {"input_config": alone}), 1000)


@pytest.mark.parametrize(
    ("completed", "total", "spec"),
    [(100, 102_400, WHOLE), (100, 102_399, None), (4, 800, None)],
)
def test_a_whole_mean_of_many_lengths_says_that_they_are_equal(
    completed: int, total: int, spec: str | None, tmp_path: Path
) -> None:
    counts = {"completed": completed, "num_prompts": completed, "total_input_tokens": total}
    row = row_of(tmp_path / "bench.json", VLLM | counts)
    assert row.isl_spec == spec
    law = length_law("prompt", row.isl_spec, row.isl_mean)
    assert law is not None
    assert law.is_random == (spec is None)
    assert (law.assumption == f"prompt lengths: {WHOLE}") == (spec is not None)
