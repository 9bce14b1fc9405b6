"""Clients of a folder, as ServeGen publishes them."""

import json
import re

import numpy as np
import pytest
from pydantic import ValidationError

from workloads.generate import generate
from workloads.traces import TraceError
from workloads.traces.client_files import ClientLengths, chunk_files
from workloads.workload import Workload

BUSY = "0,2,1,Gamma,1,0.5\n600,0,0,,0,0\n1200,4,0.5,Weibull,2.1,0.28\n1800,0,0,,0,0\n"
QUIET = "0,0,0,,0,0\n600,0.5,2,Gamma,0.25,8\n1200,0,0,,0,0\n1800,0,0,,0,0\n"
LENGTHS = {
    "0": {"input_tokens": "{100: 0.25, 200: 0.75}", "output_tokens": "{7: 1.0}"},
    "1200": {"input_tokens": "{300: 1.0}", "output_tokens": "{8: 0.5, 9: 0.5}"},
}
NOTHING = {"input_tokens": "{}", "output_tokens": "{}"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "service"
    path.mkdir()
    put(path, 0, BUSY, LENGTHS)
    put(path, 7, QUIET, {"0": {**LENGTHS["0"], "reason_ratio": "{0.5: 1.0}"}, "1200": NOTHING})
    return path


def put(folder, number, rows, lengths):
    (folder / f"chunk-{number}-trace.csv").write_text(rows)
    (folder / f"chunk-{number}-dataset.json").write_text(json.dumps(lengths, indent=2))


def drawn(folder, seed=1, most=10**6, **keys):
    return generate(Workload(clients={"path": str(folder), **keys}), seed, most=most)


def columns(requests):
    return np.stack((requests.arrival_s, requests.prompt_tokens, requests.output_tokens))


def test_each_client_asks_in_its_windows_at_its_rate(folder):
    runs = [drawn(folder, seed).arrival_s for seed in range(20)]
    counts = np.array([np.histogram(times, [0, 600, 1200, 1800, 2400])[0] for times in runs])
    mean = counts.mean(axis=0)
    assert mean[0] == pytest.approx(1200, abs=4 * np.sqrt(1200 / 20))
    assert mean[1] == pytest.approx(300, abs=4 * np.sqrt(4 * 300 / 20))
    assert mean[2] == pytest.approx(2400, abs=4 * np.sqrt(2400 / 20))
    assert mean[3] == 0


def test_lengths_are_those_of_the_time_as_often_as_the_histogram_says(folder):
    found = drawn(folder, rate_scale=5.0)
    early = found.arrival_s < 600
    share = (found.prompt_tokens[early] == 200).mean()
    assert set(found.prompt_tokens[early]) == {100, 200}
    assert set(found.output_tokens[found.arrival_s < 1200]) == {7}
    assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / early.sum()))
    late = found.arrival_s >= 1200
    assert set(found.prompt_tokens[late]) == {300}
    nine = (found.output_tokens[late] == 9).mean()
    assert nine == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / late.sum()))


def test_the_same_seed_gives_the_same_and_another_does_not(folder):
    assert np.array_equal(columns(drawn(folder)), columns(drawn(folder)))
    assert len(drawn(folder)) != len(drawn(folder, seed=2))


def test_a_client_does_not_depend_on_others_nor_on_the_end(folder):
    both, alone = columns(drawn(folder)), columns(drawn(folder, leave_out=[7]))
    quiet = columns(drawn(folder, leave_out=[0]))
    assert np.array_equal(np.sort(np.hstack((alone, quiet))[0]), both[0])
    cut = columns(drawn(folder, stop_s=1500.0))
    assert np.array_equal(cut, both[:, both[0] < 1500])
    assert 0 < cut.shape[1] < both.shape[1]


def test_a_window_begins_at_time_0_and_rates_grow(folder):
    found = drawn(folder, start_s=1500.0, stop_s=1700.0, rate_scale=3.0)
    assert found.arrival_s[-1] < 200
    assert len(found) == pytest.approx(4 * 200 * 3, abs=4 * np.sqrt(2400))
    assert found.notes == (
        "service: 2 clients of ServeGen, 1 of them ask in the 200 s from 1,500 s on: 12 requests "
        "per second in the mean",
    )


def test_requests_without_an_answer_are_left_out_and_told(folder):
    put(folder, 0, BUSY, {"0": {"input_tokens": "{9: 1}", "output_tokens": "{0: 0.5, 4: 0.5}"}})
    found = drawn(folder, leave_out=[7], stop_s=600.0)
    assert set(found.output_tokens) == {4}
    assert len(found) == pytest.approx(600, abs=4 * np.sqrt(600))
    assert re.search(r"; \d+ requests without a prompt or answer token left out$", found.notes[0])


def test_prefixes_and_priorities_stand_beside_clients(folder):
    keys = {"clients": {"path": str(folder)}, "priorities": {0: 1, 1: 1}}
    plain = generate(Workload(**keys), 1)
    shared = generate(Workload(**keys, prefixes={"shared_tokens": 50, "groups": 2}), 1)
    assert set(plain.priority) == {0, 1}
    assert np.array_equal(plain.arrival_s, shared.arrival_s)
    assert shared.prefixes is not None


def test_more_than_memory_holds_is_refused(folder):
    for most in (10, 2000, 3500):
        with pytest.raises(ValueError, match=f"clients: more than {most} requests"):
            drawn(folder, most=most)


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ("0,1,1,Gamma,1,1\n600,1,1,Gamma,1\n", 2, "has 5 values, expected start_s, rate, cv, law"),
        ("600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", 2, "start_s = 0 comes after 600, expected windo"),
        ("0,1,1,Gamma,1,1\n\n0,1,1,Gamma,1,1\n", 3, "start_s = 0 comes after 0"),
        ("0,1,1,Pareto,1,1\n600,0,0,,0,0\n", 1, "law = 'Pareto' is unknown, expected one of Gam"),
        ("0,0,0,,0,0\n600,1,1,,1,1\n", 2, "law = '' is unknown, expected one of Gamma, Weibull"),
        ("0,1,1,Gamma,0,1\n600,0,0,,0,0\n", 1, "shape = 0 of law Gamma, expected 0.001 to 1e+06"),
        ("0,-1,1,Gamma,1,1\n", 1, "rate = '-1', expected a number of at least 0"),
        ("0,nan,1,Gamma,1,1\n", 1, "rate = 'nan', expected"),
        ("0,2e9,1,Gamma,1,1\n", 1, "rate = 2e+09, expected at most 1e+09 requests per second"),
        ("start,rate,cv,law,shape,scale\n", 1, "start_s = 'start', expected a number"),
    ],
)
def test_rows_that_are_no_windows(folder, rows, line, message):
    (folder / "chunk-0-trace.csv").write_text(rows)
    with pytest.raises(TraceError, match=re.escape(f"chunk-0-trace.csv:{line}: {message}")):
        drawn(folder)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (NOTHING, "input_tokens is empty, but the client asks at 1200 s"),
        ({"input_tokens": "{5: 1.0}"}, "output_tokens is missing"),
        ({**LENGTHS["0"], "input_tokens": {"5": 1}}, "expected a text such as '{120: 0.5,"),
        ({**LENGTHS["0"], "image_tokens": "{1: 1.0}"}, "image_tokens of a client are not modelled"),
        ({**LENGTHS["0"], "input_tokens": "{5: 0.5}"}, "shares add up to 0.5, expected 1"),
        ({**LENGTHS["0"], "input_tokens": "{-5: 1.0}"}, "'-5: 1.0', expected TOKENS: SHARE"),
        ({**LENGTHS["0"], "input_tokens": "{5: x}"}, "share of 5 tokens = 'x', expected a number"),
        ([], "expected an object with input_tokens and output_tokens"),
    ],
)
def test_windows_that_hold_no_lengths(folder, window, message):
    put(folder, 0, BUSY, {"0": LENGTHS["0"], "1200": window})
    with pytest.raises(TraceError) as caught:
        drawn(folder)
    assert re.search(r"chunk-0-dataset.json:6: window 1200: ", str(caught.value))
    assert message in str(caught.value)
    if window == NOTHING:  # nobody asks for them before
        assert len(drawn(folder, stop_s=1200.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n  5", "chunk-0-dataset.json:2: no JSON: "),
        ("[]", "chunk-0-dataset.json: expected an object of windows"),
        ('{"600": 1,\n "0": 1}', "chunk-0-dataset.json:2: second 0 comes after 600, expected wind"),
        ('{\n"600": 1}', "json:2: lengths since 600 s, but the client asks from 0 s on"),
    ],
)
def test_files_that_hold_no_lengths(folder, text, message):
    (folder / "chunk-0-dataset.json").write_text(text)
    with pytest.raises(TraceError, match=re.escape(message)):
        drawn(folder)


def test_a_client_that_never_asks_needs_no_lengths_that_can_be_used(folder):
    put(folder, 0, BUSY.replace("2,1,Gamma", "0,0,Gamma").replace("4,0.5", "0,0.5"), {})
    assert len(drawn(folder))


def test_files_that_are_missing_are_named_and_how_to_do_without(folder):
    (folder / "chunk-7-dataset.json").unlink()
    (folder / "chunk-9-dataset.json").write_text("{}")
    message = (
        "chunk-7-dataset.json, chunk-9-trace.csv missing, expected both files of each client; "
        "leave_out: [7, 9] does without"
    )
    with pytest.raises(TraceError, match=re.escape(message)):
        drawn(folder)
    assert len(drawn(folder, leave_out=[7, 9]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"leave_out": [3]}, "leave_out names 3, expected clients of the folder: 0, 7"),
        ({"leave_out": [0, 7]}, "leave_out leaves no client"),
        ({"start_s": 1800.0}, "no client asks with start_s(=1800) <= time < stop_s(=2400)"),
        ({"start_s": 9e4}, "no client asks with start_s(=90000)"),
        ({"rate_scale": 1e-9}, "no request arrives, expected one at least"),
    ],
)
def test_nobody_who_asks(folder, keys, message):
    with pytest.raises(TraceError, match=re.escape(message)):
        drawn(folder, **keys)


def test_paths_that_are_no_folder_of_clients(tmp_path, folder):
    for path, message in (
        (tmp_path / "none", "none: does not exist, expected a folder with chunk-N-trace.csv"),
        (folder / "chunk-0-trace.csv", "chunk-0-trace.csv: is a file, expected a folder"),
        (tmp_path, "holds no client, expected chunk-N-trace.csv and chunk-N-dataset.json"),
    ):
        with pytest.raises(TraceError, match=re.escape(message)):
            drawn(path)
    (folder / "chunk-0-trace.csv").write_text("0,1,1,Gamma,1,1\n")
    with pytest.raises(TraceError, match="holds 1 windows, expected two at least"):
        drawn(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_requests": 5}, "clients bring their own requests, expected no num_requests"),
        ({"trace": "x.csv"}, "expected either trace or clients"),
        ({"rate_scale": 2.0}, "rate_scale(=2) is for a trace, expected clients.rate_scale"),
        ({"clients": {"path": "x", "start_s": 5, "stop_s": 5}}, "stop_s(=5) must be > start_s(=5)"),
    ],
)
def test_keys_that_contradict_clients(keys, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        Workload(**{"clients": {"path": "x"}, **keys})


def test_a_study_reads_the_files_of_the_folder_beside_it(folder):
    workload = Workload(clients={"path": folder.name}).anchored(folder.parent)
    assert workload.files == tuple(str(path) for path in chunk_files(folder))
    assert [path.split("-")[-2:] for path in workload.files][:1] == [["0", "dataset.json"]]
    assert len(generate(Workload(clients={"path": folder.name}), 1, folder.parent))
    assert workload.is_random
    assert workload.has_clock
    assert not workload.waits


def test_a_histogram_of_lengths_by_luck(tmp_path):
    put(tmp_path, 0, BUSY, LENGTHS)
    prompts, _ = ClientLengths(tmp_path / "chunk-0-dataset.json").histograms(0, 0.0)
    luck = np.array([0.0, 0.2499, 0.25, 0.9999999999999999])
    assert prompts.at(luck).tolist() == [100, 100, 200, 200]
