"""A whole server of vLLM beside its simulation: the tool, as far as it goes without vLLM."""

import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.calibrating.beside import beside, lines, markdown
from experiments.cli.witness import main
from experiments.witness.served.bench import Told
from experiments.witness.served.comparing import KEYS, pages, read, table
from experiments.witness.served.driving import driven, runs_at
from experiments.witness.served.figures import METRICS, measured, occupancy
from experiments.witness.served.host import host_times
from experiments.witness.served.predicting import fitted, prices_of
from experiments.witness.served.setting import (
    CONFIG,
    Traffic,
    drawn,
    texts,
    write_model,
    write_prompts,
)
from experiments.witness.served.stages import OtherSettingError, Stages
from experiments.witness.served.streams import burst


def test_requests_are_the_same_again_and_begin_with_one_of_the_texts() -> None:
    traffic = Traffic(prefixes=3, prefix_tokens=5)
    requests = drawn(traffic, 40)
    assert requests.prompt.tolist() == drawn(traffic, 40).prompt.tolist()
    prompts = [text.split() for text in texts(requests, 5, 0)]
    assert [len(words) for words in prompts] == requests.prompt.tolist()
    pairs = zip(requests.group.tolist(), prompts, strict=True)
    assert len({(group, tuple(words[:5])) for group, words in pairs}) == 3
    assert len({tuple(words[5:]) for words in prompts}) == 40


def test_requests_of_a_closed_loop_wait_for_a_stream() -> None:
    requests = drawn(Traffic(), 6)
    assert requests.rows(96, 2, []).users == 2
    rows = requests.rows(96, None, [0.0, 0.5, 0.6, 1.0, 1.5, 2.0])
    assert rows.users is None
    assert rows.arrival_s.tolist() == [0.0, 0.5, 0.6, 1.0, 1.5, 2.0]
    assert rows.prefixes is not None
    assert rows.prefixes.ends.tolist() == 6 * [96]


def test_the_model_has_a_word_for_each_token(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(CONFIG["vocab_size"]))
    write_prompts(tmp_path / "p.jsonl", drawn(Traffic(), 2), ["t3 t4", "t5"])
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["t3 t4", "t5"]
    assert vocabulary["t4"] == 4


def test_host_times_are_those_that_were_put_in() -> None:
    def price(decodes: int, context: int, chunks: Sequence[tuple[int, int]]) -> float:
        return 2e-3 + 1e-4 * decodes + 2e-5 * sum(tokens for tokens, _ in chunks)

    phases = []
    for prompt in (16, 64, 256):
        ttft_s = price(0, 0, [(prompt, 0)]) + 1.5e-3 + 3e-6 * prompt
        cpu_s = 10 * (8e-4 + 1e-6 * prompt) + 20 * (3e-4 + 9e-5)
        phases.append(
            {"kind": "alone", "prompt": prompt, "ttft_s": [ttft_s] * 10, "requests": 10,
             "streams": 1, "tokens": 20, "api_cpu_s": cpu_s}
        )  # fmt: skip
    for streams in (1, 8, 32):
        tpot_s = price(streams, 48, []) + 2e-4 + 1e-5 * streams
        cpu_s = streams * (8e-4 + 16e-6) + 64 * (3e-4 + streams * 9e-5)
        phases.append(
            {"kind": "burst", "prompt": 16, "streams": streams, "tpot_s": [tpot_s] * streams,
             "requests": streams, "tokens": 64 * streams, "api_cpu_s": cpu_s}
        )  # fmt: skip
    phases.append({"kind": "churn", "tpot_s": [3.1e-3, 3.3e-3]})
    found = host_times(phases, price, lambda times, phase: 3e-3 + times.engine_request_s / 2)
    assert found.engine_request_s == pytest.approx(4e-4)
    assert found.step_s == pytest.approx(2e-4)
    assert found.sequence_s == pytest.approx(1e-5)
    assert found.request_s == pytest.approx(1.5e-3)
    assert found.token_s == pytest.approx(3e-6)
    assert found.loop_request_s == pytest.approx(8e-4)
    assert found.loop_token_s == pytest.approx(1e-6)
    assert found.loop_step_s == pytest.approx(3e-4)
    assert found.loop_output_s == pytest.approx(9e-5)


def test_what_cannot_be_below_nothing_is_not() -> None:
    phases = [
        {"kind": "burst", "prompt": 16, "streams": n, "tpot_s": [2e-3 - 1e-5 * n],
         "requests": n, "tokens": 64 * n, "api_cpu_s": 6e-3 * n}
        for n in (1, 8)
    ]  # fmt: skip
    phases.append(
        {"kind": "alone", "prompt": 16, "ttft_s": [3e-3], "requests": 1, "streams": 1, "tokens": 2,
         "api_cpu_s": 1e-3}
    )  # fmt: skip
    phases.append({"kind": "churn", "tpot_s": [1e-3]})
    found = host_times(phases, lambda decodes, context, chunks: 1e-3, lambda times, phase: 2e-3)
    assert found.engine_request_s == 0.0
    assert found.sequence_s == 0.0
    assert found.step_s > 0.0


def test_figures_of_a_real_run() -> None:
    columns: dict[str, list[float]] = {
        "sent_s": [0.0, 1.0], "ttft_s": [0.1, 0.3], "e2e_s": [0.5, 1.0], "output_tokens": [5, 8],
        "prompt_tokens": [4, 4], "gaps_s": [0.1] * 11,
    }  # fmt: skip
    counted = {"preemptions": 1.0, "hits": 30.0, "queries": 120.0}
    samples = [{"running": 1.0, "waiting": 0.0}, {"running": 2.0, "waiting": 1.0}]
    found = measured(columns, counted, samples)
    assert set(found) == set(METRICS)
    assert found["ttft_mean_s"] == pytest.approx(0.2)
    assert found["tpot_mean_s"] == pytest.approx(0.1)
    assert found["e2e_p99_s"] == pytest.approx(0.995)
    assert found["output_tokens_per_s"] == pytest.approx(6.5)
    assert (found["mean_running"], found["mean_waiting"]) == (1.5, 0.5)
    assert (found["preemptions"], found["hit_rate"]) == (1.0, 0.25)


def test_who_runs_and_who_waits_is_counted_when_it_was_looked() -> None:
    columns = {
        "reached_s": np.array([0.0, 1.0, 2.0]), "first_scheduled_s": np.array([0.0, 3.0, 4.0]),
        "finish_s": np.array([3.0, 5.0, 6.0]),
    }  # fmt: skip
    running, waiting = occupancy(columns, np.array([0.5, 2.5, 4.5, 7.0]))
    assert running.tolist() == [1, 1, 2, 0]
    assert waiting.tolist() == [0, 2, 0, 0]


def test_measured_beside_predicted() -> None:
    first, second = (
        {"ttft_mean_s": 0.1, "preemptions": 0.0},
        {"ttft_mean_s": 0.12, "preemptions": 0},
    )
    rows = beside(
        {"load": 0.6}, first, second, {"ttft_mean_s": 0.121, "preemptions": 0.0}, tuple(first)
    )
    assert rows[0]["error"] == pytest.approx(0.1)
    assert rows[0]["noise"] == pytest.approx(0.2)
    assert rows[1]["error"] == rows[1]["noise"] == 0.0
    told = ["+10.0%", "+20.0%"]
    table = markdown(rows, ("load",), ("ttft_mean_s",))
    assert table[0] == "| load |  | ttft_mean |"
    assert table[2:] == [
        "| 60% | predicted against measured | +10.0% |", "| 60% | measured again | +20.0% |",
    ]  # fmt: skip
    words = lines(rows, ("load",))[1].split()
    assert words == ["60%", "ttft_mean", "ms", "110.00", "121.00", *told]


def serve(listener: socket.socket, asked: list[dict[str, object]]) -> None:
    """Answer every request on every stream as vLLM streams, two tokens in one message."""

    def answer(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as incoming:
            while head := incoming.readline():
                length = 0
                while line := head.strip() and incoming.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                asked.append(json.loads(incoming.read(length)))
                for part in (b'data: {"choices":[{"te', b'xt":"a"}]}\n\n', b'data: {"text":"b c"}'):
                    connection.sendall(part)
                connection.sendall(b"\n\ndata: [DO")
                connection.sendall(b"NE]\n\n")

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def test_the_light_client_counts_what_comes() -> None:
    asked: list[dict[str, object]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, asked), daemon=True).start()
        answers = burst(listener.getsockname()[1], "m", ["t3 t4", "t5", "t6 t7 t8"], [3, 3, 3], 2)
    assert sorted(one.prompt_tokens for one in answers) == [1, 2, 3]
    assert {str(one["prompt"]) for one in asked} == {"t3 t4", "t5", "t6 t7 t8"}
    assert [one.messages for one in answers] == [2, 2, 2]
    assert all(one.sent_s < one.first_s <= one.last_s for one in answers)


def told(
    prompts: Path, count: int, rate_per_s: float | None, streams: int | None, out: Path
) -> Told:
    """As a client that has asked for all prompts of a file."""
    asked = drawn(Traffic(), count)
    nothing = [0.25] * count
    return Told(
        client_cpu_s=2.0,
        columns={
            "sent_s": nothing, "ttft_s": nothing, "e2e_s": nothing, "gaps_s": nothing,
            "prompt_tokens": [float(each) for each in asked.prompt],
            "output_tokens": [float(each) for each in asked.output],
        },
        counted={"preemptions": 0.0, "hits": 0.0, "queries": 0.0},
        samples=[{"running": 1.0, "waiting": 0.0}],
    )  # fmt: skip


def test_a_measurement_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    runs, path = runs_at(10.0, 1.0), tmp_path / "served.part.json"
    asked: list[int] = []

    def client(*given: Any) -> Told:
        asked.append(given[1])
        if len(asked) == 5:
            raise KeyboardInterrupt
        return told(*given)

    def drive() -> dict[str, Any]:
        stages = Stages(path, {"run_s": 1.0})
        return driven(client, runs, Traffic(), tmp_path, stages, lambda line: None)

    with pytest.raises(KeyboardInterrupt):
        drive()
    found = drive()
    # One to start, those alone, then each load and the streams twice; the fifth was not kept.
    counts = [run["count"] for run in runs]
    assert counts == [8, 8, 8, 8]
    assert asked == [1, 60, *counts[:3], *counts[2:], *counts]
    assert [run["again"] for run in found["runs"]] == [False] * 4 + [True] * 4
    assert found["client_start_s"] == 2.0
    asked.clear()
    assert drive() == found
    assert not asked


def test_stages_of_another_setting_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "curve.part.json"
    assert Stages(path, {"run_s": 1.0, "engine": {"seats": (1, 2)}})("steps", lambda: (3, 4)) == [
        3,
        4,
    ]
    assert Stages(path, {"run_s": 1.0, "engine": {"seats": [1, 2]}})("steps", list) == [3, 4]
    with pytest.raises(
        OtherSettingError, match=r"with run_s 1.0, expected 2.0: give another --out"
    ):
        Stages(path, {"run_s": 2.0, "engine": {"seats": [1, 2]}})


ROOT = Path(__file__).parents[2]
MEASURED = Path(__file__).parent / "served"
"""What ``headroom witness serve`` measured once; beside.csv: the predictions at that time."""


def test_a_measured_server_is_predicted_as_before() -> None:
    found = table(MEASURED)
    kept = pd.read_csv(MEASURED / "beside.csv")
    assert found[[*KEYS, "metric"]].equals(kept[[*KEYS, "metric"]])
    for name in ("real", "real_again", "simulated"):
        np.testing.assert_allclose(found[name], kept[name], rtol=1e-9, err_msg=name)


def test_the_page_shows_what_was_measured() -> None:
    page = (ROOT / "docs" / "witness.md").read_text(encoding="utf-8")
    shown = page.split("<!-- served: begin -->")[1].split("<!-- served: end -->")[0]
    assert shown.strip() == pages(MEASURED).strip()


def test_prices_are_what_the_measured_steps_say() -> None:
    data = read(MEASURED / "served.json")
    again, kept = fitted(data), prices_of(data)
    assert again["prices"]["api_request_s"] == pytest.approx(kept.api_request_s, rel=0.02)
    assert again["prices"]["step_overhead_s"] == pytest.approx(kept.step_overhead_s, rel=0.02)
    assert again["host"]["loop_output_s"] == pytest.approx(data["host"]["loop_output_s"], rel=0.02)


def test_a_folder_without_measurements_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["served", str(tmp_path)]) == 2
    assert "holds nothing that headroom witness serve has written" in capsys.readouterr().err
