"""Words of tables that have another reading beside the obvious one."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from experiments.study.errors import StudyError
from experiments.validation.cells import burstiness_in, cap_in, measured_inside, switched_on
from experiments.validation.clients import is_inferencex
from experiments.validation.lengths import length_law
from experiments.validation.per_request import read_requests
from experiments.validation.rows import read_table, row_of
from experiments.validation.settings import setup_of
from tests.experiments.measured_runs import run

CELLS = {
    "run_id": "a", "model": "llama-3.1-8b", "gpu": "h100", "engine_version": "0.15.1",
    "isl_mean": "500", "osl_mean": "100",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        ("gamma burstiness=50", 50), ("gamma(k=4)", 4), ("gamma alpha: 0.5", 0.5),
        ("gamma, cv=2", 0.25), ("gamma cv²=2", 0.5), ("gamma scv=4", 0.25), ("gamma cv^2 = 2", 0.5),
        ("gamma with shape 4", 4), ("gamma", None), ("k8s, gamma", None), ("40k gamma", None),
    ],
)  # fmt: skip
def test_the_shape_of_gamma_gaps_has_many_names(words, shape):
    assert burstiness_in(words) == (None if shape is None else pytest.approx(shape))


def test_a_cap_among_the_words_of_arrivals_is_no_closed_loop():
    assert cap_in("poisson, max_concurrency=64") == (64, "poisson")
    assert cap_in("poisson") == (None, "poisson")
    row = row_of(
        CELLS | {"arrival_process": "poisson; max concurrency 64", "request_rate_rps": "4"}
    )
    assert (row.closed_loop, row.max_concurrency) == (False, 64)
    alone = row_of(CELLS | {"arrival_process": "max-concurrency: 8"})
    assert (alone.closed_loop, alone.max_concurrency) == (True, 8)


@pytest.mark.parametrize(
    "words", ["throughput", "max rate", "as fast as possible", "throughput mode"]
)
def test_who_sends_as_fast_as_possible_sends_all_at_once(words):
    assert row_of(CELLS | {"arrival_process": words, "n_requests": "10"}).all_at_once


@pytest.mark.parametrize(
    ("column", "text"),
    [("n_requests", "1.000"), ("max_num_batched_tokens", "8.192"), ("isl_mean", "2.048")],
)
def test_a_dot_may_separate_thousands_so_that_the_row_is_not_read(column, text):
    with pytest.raises(ValidationError, match=column):
        row_of(CELLS | {column: text})


def test_dots_that_mean_one_thing_are_read():
    assert row_of(CELLS | {"n_requests": "1000.0"}).n_requests == 1000
    assert row_of(CELLS | {"isl_mean": "986.123"}).isl_mean == 986.123


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("--no-enable-prefix-caching", False), ("--enable-prefix-caching", True), ("w/o", False),
        ("--enable-chunked-prefill=False", False), ("without", False), ("radix", None),
    ],
)  # fmt: skip
def test_flags_are_switches(text, on):
    assert switched_on(text) is on


def test_a_switch_that_says_neither_and_gpus_that_nobody_uses_are_told():
    row = row_of(CELLS | {"prefix_caching": "radix", "n_gpus": "8", "tp": "2"})
    notes = " ".join(setup_of(row, 600).notes)
    assert "prefix_caching = 'radix'" in notes
    assert "n_gpus = 8: 2 of them are simulated" in notes


@pytest.mark.parametrize(
    "notes",
    [
        "TTFT from /metrics", "engine-side", "server-side TTFT, no client", "OTEL spans",
        "scraped vllm:time_to_first_token_seconds", "from server logs", "vLLM's own histograms",
    ],
)  # fmt: skip
def test_notes_that_say_that_the_engine_measured_itself(notes):
    assert measured_inside(notes)


@pytest.mark.parametrize(
    "notes",
    [
        "client-side, not engine-side", "/metrics not used", "neither engine-side nor network",
        "latencies of the client; GPU utilisation from Prometheus", "server side batching on",
        "no /metrics scraping", "engine-side queue time not included", "measured at the client",
    ],
)  # fmt: skip
def test_notes_that_only_mention_it(notes):
    assert not measured_inside(notes)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ("InferenceX 1k/1k", True), ("SemiAnalysis InferenceMAX", True), ("like InferenceX", False),
        ("InferenceX-style prompts", False), ("same lengths as InferenceX, own client", False),
        ("InferenceX recipe was not used", False), ("not run with InferenceX", False),
    ],
)  # fmt: skip
def test_only_runs_of_inferencex_have_its_recipes(workload, said):
    row = row_of(CELLS | {"workload": workload, "arrival_process": "closed loop, concurrency 8"})
    assert is_inferencex(row) is said


def test_sigma_of_a_lognormal_law_is_of_its_logarithm():
    law = length_law("prompt", "lognormal, mean 512, sigma 0.5", None)
    assert law is not None
    assert law.cv == pytest.approx(np.sqrt(np.exp(0.25) - 1))
    tokens = length_law("prompt", "mean 512 sigma 64", None)
    assert tokens is not None
    assert tokens.cv == pytest.approx(0.125)


def test_a_number_of_tokens_alone_is_every_length() -> None:
    for words in ("1024", "1,024 tokens", "isl: 1024 toks", "1024 token"):
        law = length_law("prompt", words, None)
        assert law is not None
        assert (law.mean, law.is_random) == (1024, False)
    law = length_law("prompt", "1024 tokens of ShareGPT", None)
    assert law is not None
    assert (law.mean, law.is_random) == (1024, True)


def test_a_normal_law_has_a_mean_and_a_deviation() -> None:
    for words in ("normal(500, 100)", "Gaussian (500, 100)"):
        law = length_law("output", words, None)
        assert law is not None
        assert (law.mean, law.cv) == (500, 0.2)
    assert length_law("output", "N(500, 100)", None) is None  # a deviation, or a variance


def test_a_uniform_law_in_letters():
    law = length_law("prompt", "U[100, 900]", None)
    assert law is not None
    assert (law.mean, law.jitter) == (500, 0.8)


def test_words_for_an_answered_request(tmp_path):
    lines = ["arrival_s,input_tokens,output_tokens,status,e2e_s"]
    lines += [f"{second},10,10,completed,5.0" for second in range(4)]
    path = tmp_path / "requests.csv"
    path.write_text("\n".join(lines))
    assert read_requests(path).timeout_s is None
    path = tmp_path / "others.csv"
    path.write_text("\n".join(lines).replace("completed", "timed out"))
    assert read_requests(path).timeout_s == 5.0


RESULT = {
    "model_id": "llama-3.1-8b", "duration": 10.0, "completed": 20, "num_prompts": 20,
    "request_rate": 2.0, "total_input_tokens": 2000, "total_output_tokens": 400,
    "mean_ttft_ms": 30.0,
}  # fmt: skip


def test_results_that_were_appended_to_one_file_are_runs_of_their_own(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(RESULT) + "\n" + json.dumps(RESULT | {"request_rate": 4.0}))
    runs = read_table(path, {"gpu": "h100"}).runs
    assert [(run.name, run.base.request_rate_rps) for run in runs] == [
        ("bench-0", 2.0), ("bench-1", 4.0),
    ]  # fmt: skip


def test_a_ramp_has_no_rate_of_its_own(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(RESULT | {"ramp_up_strategy": "linear", "request_rate": "inf"}))
    row = read_table(path, {"gpu": "h100"}).runs[0].base
    assert (row.request_rate_rps, row.duration_s, row.all_at_once) == (None, 10.0, False)


def test_a_result_that_was_cut_off_is_told_in_a_folder_too(tmp_path):
    (tmp_path / "whole.json").write_text(json.dumps(RESULT))
    (tmp_path / "other.json").write_text("{}")
    assert len(read_table(tmp_path, {"gpu": "h100"}).runs) == 1
    (tmp_path / "half.json").write_text(json.dumps(RESULT)[:-20])
    with pytest.raises(StudyError, match="half"):
        read_table(tmp_path, {"gpu": "h100"})


@pytest.mark.parametrize(
    "words",
    ["single stream", "sequential requests", "one at a time", "back-to-back", "synchronous"],
)
def test_who_waits_for_each_answer_is_a_closed_loop_of_one(words):
    row = row_of(run("a", arrival_process=words, request_rate_rps="", max_concurrency=""))
    assert (row.closed_loop, row.max_concurrency) == (True, 1)
    other = row_of(run("a", arrival_process="asynchronous, poisson", max_concurrency=""))
    assert not other.closed_loop


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("max_num_seqs", "default", None),
        ("max_num_batched_tokens", "vLLM's default", None),
        ("gpu_mem_util", "auto", None),
        ("tp", "8-way", 8),
        ("n_requests", "1,000 prompts", 1000),
        ("gpu", "HGX H100 (8 GPU)", "H100"),
        ("gpu", "DGX-A100-80GB", "A100-80GB"),
    ],
)
def test_cells_as_people_write_them(column, text, value):
    assert getattr(row_of(run("a", **{column: text})), column) == value


def test_what_no_number_can_be_is_told():
    with pytest.raises(ValidationError):
        row_of(run("a", max_num_seqs="default or 256"))


@pytest.mark.parametrize(
    ("precision", "weights", "cache"),
    [
        ("bf16, fp8 KV", "bf16", "fp8"), ("FP8 (weights + KV)", "FP8", "FP8"),
        ("int4 weights, kv cache in fp8", "int4 weights", "fp8"), ("fp8", "fp8", None),
        ("bf16 weights / KV cache fp8", "bf16 weights", "fp8"), ("fp8 kv cache", "", "fp8"),
        ("w4a16 with fp8_e4m3 kv-cache", "w4a16", "fp8_e4m3"),
    ],
)  # fmt: skip
def test_a_precision_may_tell_the_cache(precision, weights, cache):
    row = row_of(CELLS | {"precision": precision})
    assert (row.precision, row.kv_cache_dtype) == (weights, cache)
    engine = setup_of(row, 600).engine
    assert engine.kv_cache_dtype == ("fp8" if cache else "auto")


def test_a_cache_without_numbers_is_not_passed_over():
    row = row_of(CELLS | {"precision": "bf16 (KV quantized)"})
    with pytest.raises(ValueError, match="names the KV cache, expected its kv_cache_dtype"):
        setup_of(row, 600)
    own = row_of(CELLS | {"precision": "bf16, fp8 KV", "kv_cache_dtype": "auto"})
    assert own.kv_cache_dtype == "auto"


@pytest.mark.parametrize(
    ("gpu", "limit"),
    [
        ("H100 SXM (power cap 350 W)", "power cap"), ("A100 (limited to 300W)", "limited to 300w"),
        ("L40S, clocks locked", "clocks locked"), ("H100 (700W)", None),
    ],
)  # fmt: skip
def test_limits_of_a_gpu_are_told(gpu, limit):
    notes = setup_of(row_of(CELLS | {"gpu": gpu}), 600).notes
    told = [note for note in notes if "clocks of the datasheet" in note]
    assert told == ([f"{limit}: without it, at the clocks of the datasheet"] if limit else [])


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("vLLM", False), ("vllm/vllm-openai:v0.15.1", False), ("vLLM (V1)", False),
        ("vllm==0.10.2rc1", False), ("vLLM nightly", False), ("vLLM + LMCache", True),
        ("llm-d(vllm)", True),
    ],
)  # fmt: skip
def test_what_stands_beside_the_engine_is_told(engine, told):
    notes = setup_of(row_of(CELLS | {"engine": engine}), 600).notes
    assert (f"engine = {engine}: simulated as vLLM alone" in notes) is told
