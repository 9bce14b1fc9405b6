"""The live page's server: what it answers, whom it refuses, and that it leaves nothing behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from live_study import ROOT, STUDY, TOKEN
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from experiments.exploring.knobs import DEFAULT, KnobError, knobs_of, settings_of
from experiments.exploring.points import base_of
from experiments.reporting.quantities import MISSING
from experiments.study.document import read_raw
from experiments.study.overrides import override
from experiments.study.points import prepare


def lines(client: TestClient, address: str) -> list[dict[str, Any]]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_figures_are_those_of_run(client: TestClient, study: Path) -> None:
    """Every seed adds a line; the last has the figures of the study that run simulates."""
    subprocess.run(
        [sys.executable, "-m", "experiments.run", study.name, "--no-figures", "--jobs", "1"],
        cwd=study.parent, check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with (study.parent / "results" / "small" / "summary.csv").open() as file:
        row = list(csv.DictReader(file))[1]
    told = lines(client, "/run?seeds=3")
    assert [each["seeds"] for each in told] == [1, 2, 3]
    found = told[-1]["point"]["m"]
    for metric in ("ttft_p99_s", "tpot_p99_s", "usd_per_million_output_tokens", "slo_attainment"):
        assert found[metric][0] == float(f"{float(row[metric]):.3e}"), metric


def test_a_long_run_is_looked_at_first_by_a_shorter_one(
    client: TestClient, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures are those of a study of so many requests, and it is told as what it is."""
    monkeypatch.setattr("experiments.exploring.points.FIRST_REQUESTS", 400)
    subprocess.run(
        [sys.executable, "-m", "experiments.run", study.name, "--no-figures", "--jobs", "1",
         "--set", "workload.num_requests=400", "--set", "workload.arrivals.rate_per_s=9",
         "--set", "seeds=1", "--set", "sweep={}", "--out", "short"],
        cwd=study.parent, check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with (study.parent / "short" / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    first, *seeds = lines(client, "/run?seeds=2&rate=9&baseline.rate=8")
    assert (first["requests"], first["seeds"], first["differences"]) == (400, 1, [])
    for metric in ("ttft_p99_s", "tpot_p99_s", "usd_per_million_output_tokens", "slo_attainment"):
        assert first["point"]["m"][metric][0] == float(f"{float(row[metric]):.3e}"), metric
    assert [each["seeds"] for each in seeds] == [1, 2]
    assert not any("requests" in each for each in seeds)
    assert seeds[0]["differences"]
    again = lines(client, "/run?seeds=2&rate=9&baseline.rate=8")
    assert [each["seeds"] for each in again] == [1, 2]
    assert "requests" not in again[0]


def test_a_baseline_gives_paired_differences(client: TestClient) -> None:
    told = lines(client, "/run?seeds=3&rate=8&baseline.rate=8")[-1]
    assert {each["difference"] for each in told["differences"]} == {0.0}
    told = lines(client, "/run?seeds=3&rate=16&baseline.rate=8")[-1]
    shown = {each["name"]: each for each in told["differences"]}
    assert shown["TTFT p99, ms"]["now"] == 1e3 * told["point"]["m"]["ttft_p99_s"][0]
    price = told["differences"][0]
    assert price["now"] < price["baseline"]
    assert price["difference_hi"] < 0
    assert told["options"] == "--set workload.arrivals.rate_per_s=16.0"


def test_a_latency_that_grows_with_the_run_is_no_figure(client: TestClient) -> None:
    told = lines(client, "/run?seeds=2&max_num_seqs=8&rate=40&baseline.rate=8")[-1]
    assert told["point"]["state"] == "saturated"
    shown = {each["name"]: each for each in told["differences"]}
    ttft, tpot = shown["TTFT p99, ms"], shown["TPOT p99, ms"]
    assert (ttft["now"], ttft["difference"], ttft["difference_lo"]) == (None, None, None)
    assert ttft["baseline"] > 0
    assert tpot["difference"] != 0


def test_of_too_short_a_run_beyond_what_can_be_served_there_is_no_latency(
    client: TestClient,
) -> None:
    """Nobody sees its queue grow; but the time in it says how long the run was, nothing else."""
    (told,) = lines(client, "/run?seeds=1&output=600&rate=60")
    assert told["point"]["state"] == "saturated"
    assert told["point"]["m"]["ttft_p99_s"] == [None]
    assert told["point"]["few"]["ttft_p99_s"] == 0
    assert told["cards"][3]["value"] == MISSING
    (told,) = lines(client, "/run?seeds=1&rate=1")
    assert told["point"]["few"].get("ttft_p99_s", 1) > 0
    assert told["cards"][3]["value"] != MISSING


def test_what_does_not_fit_is_said_with_its_ledger(client: TestClient) -> None:
    (told,) = lines(client, "/run?seeds=1&gpu=t4")
    assert "does not fit on t4" in told["error"]
    assert "left for KV" in told["error"]


def test_a_fault_is_told_on_the_page_and_in_the_terminal(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: object) -> dict[str, Any]:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("experiments.exploring.question.answer", wrong)
    (told,) = lines(client, "/run?seeds=1")
    assert "something is wrong in headroom itself" in told["error"]
    assert "ZeroDivisionError: by nothing" in told["error"]
    assert "in wrong" in capfd.readouterr().err
    monkeypatch.undo()
    (told,) = lines(client, "/run?seeds=1")
    assert "error" not in told


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/run?seeds=99", 422),
        ("/run?seeds=0", 422),
        ("/run?seeds=4.0", 422),
        ("/run?rate=nan", 422),
        ("/run?rate=inf", 422),
        ("/run?rate=-4", 422),
        ("/run?rate=", 422),
        ("/run?rate=4%00", 422),
        ("/run?rate=1e9", 422),
        ("/run?rate=8&rate=9", 422),
        ("/run?rate=1_0", 422),
        ("/run?rate=%EF%BC%98", 422),
        ("/run?rate=%2008", 422),
        ("/run?rate=" + 5000 * "9", 422),
        ("/run?seeds=%D9%A4", 422),
        ("/run?seeds=1&seeds=8", 422),
        ("/run?max_num_seqs=__class__", 422),
        ('/run?gpu={"name":"x","memory_bytes":1}', 422),
        ("/run?baseline.=8", 422),
        ("/run?baseline.baseline.rate=8", 422),
        ("/run?out=/tmp/mine", 422),
        ("/run?workload.arrivals.rate_per_s=8", 422),
        ("/study?seeds=3", 422),
        ("/study?rate=8&rate=9", 422),
        ("/run?replicas=2.7", 422),
        ("/run?gpu=/etc/passwd", 422),
        ("/run?model=gpt2", 422),
        ("/run?calibration=/tmp/prices.yaml", 422),
        ("/run?workload.trace=/etc/passwd", 422),
        ("/run?baseline.calibration=x", 422),
        ("/run?baseline.rate=1e9", 422),
        ("/study?gpu=/etc/passwd", 422),
        ("/study?rate=nan", 422),
        ("/../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/assets/page.css", 404),
        ("/docs", 404),
        ("/run/", 404),
        ("/RUN", 404),
        ("/run;seeds=1", 404),
        ("/%252e%252e/etc/passwd", 404),
        ("/run%0d%0aSet-Cookie:%20a=b", 404),
        ("/state/../study%00", 404),
        ("/openapi.json", 404),
    ],
)
def test_nothing_but_the_list_is_answered(client: TestClient, address: str, status: int) -> None:
    assert client.get(address).status_code == status


def test_only_who_has_the_token_is_answered(client: TestClient) -> None:
    cookie = client.cookies.get("headroom_9")
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    for site in ("cross-site", "same-site"):
        assert client.get("/", headers={"Sec-Fetch-Site": site}).status_code == 403
    for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"):
        assert client.get("/run", headers={"Origin": origin}).status_code == 403
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"):
        assert client.request(method, "/run").status_code == 405, method
    client.cookies.clear()
    assert client.get("/").status_code == 403
    for wrong in ("guessed", "", "%C3%A9", TOKEN + "x"):
        assert client.get(f"/?token={wrong}").status_code == 403
    name, signature = cookie.split(".")
    assert TOKEN not in cookie
    for forged in (
        "guessed",
        TOKEN,
        f".{signature}",
        f"{name}.",
        f"{name}x.{signature}",
        "\xe9.\xe9",
    ):
        header = {"Cookie": f"headroom_9={forged}".encode("latin-1")}
        assert client.get("/run", headers=header).status_code == 403, forged
    right = {"Cookie": f"headroom_9={cookie}"}
    hosts = (
        "127.0.0.1.evil.example",
        "evil.example:127.0.0.1",
        "127.0.0.1@evil.example",
        "0.0.0.0",
    )
    for host in hosts:
        assert client.get("/", headers={"Host": host, **right}).status_code == 400, host
    for site in ("same-origin, cross-site", "SAME-ORIGIN", ""):
        answer = client.get("/", headers={"Sec-Fetch-Site": site, **right})
        assert answer.status_code == 403, site
    twice = (
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        [("Origin", "http://127.0.0.1"), ("Origin", "http://evil.example")],
    )
    for headers in twice:
        assert client.get("/state", headers=[*headers, *right.items()]).status_code == 403
    assert client.get("/state").status_code == 403
    client.cookies.set("headroom_9", cookie, domain="127.0.0.1")
    assert client.get("/").status_code == 200


def test_the_token_leads_to_the_page_and_nowhere_else(client: TestClient) -> None:
    for path in ("/", "//evil.example/", "/run", "/%2f%2fevil.example"):
        answer = client.get(f"http://127.0.0.1{path}?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (307, "/")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=strict" in answer.headers["set-cookie"]


def test_a_link_of_another_site_leads_to_the_page_by_a_step_of_its_own(client: TestClient) -> None:
    """With what follows a redirection from there the browser would not send the cookie."""
    for site in ("cross-site", "same-site"):
        answer = client.get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 200
        assert 'location.replace("/" + location.hash)' in answer.text
        assert TOKEN not in answer.text
        assert "SameSite=strict" in answer.headers["set-cookie"]


def test_a_browser_is_one_viewer_however_often_it_opens_the_address(client: TestClient) -> None:
    known = client.cookies["headroom_9"]
    assert client.get(f"/?token={TOKEN}").cookies["headroom_9"] == known
    client.cookies.clear()
    assert client.get(f"/?token={TOKEN}").cookies["headroom_9"] != known


@pytest.mark.parametrize("path", ["/", "/run", f"/?token={TOKEN}"])
def test_there_are_no_websockets(client: TestClient, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


def test_a_setting_can_be_kept_as_a_study(client: TestClient, tmp_path: Path) -> None:
    answer = client.get("/study?rate=16&max_num_seqs=64")
    assert "small.yaml" in answer.headers["content-disposition"]
    (tmp_path / "kept.yaml").write_text(answer.text)
    raw = read_raw(tmp_path / "kept.yaml", []).raw
    assert raw["workload"]["arrivals"]["rate_per_s"] == 16
    assert raw["engine"]["max_num_seqs"] == 64


def test_a_key_that_is_null_is_a_default_that_is_not_sent(study: Path) -> None:
    knobs = knobs_of(base_of(read_raw(study, []), 1).study())
    seats = next(knob for knob in knobs if knob.id == "max_num_seqs")
    assert seats.value == DEFAULT
    assert settings_of(knobs, {"max_num_seqs": DEFAULT}) == {}
    assert settings_of(knobs, {"max_num_seqs": "64"}) == {"engine.max_num_seqs": 64}
    with pytest.raises(KnobError, match="max_num_seqs = '65', expected one of"):
        settings_of(knobs, {"max_num_seqs": "65"})


def test_a_knob_goes_far_enough_and_has_the_study_s_own_value(study: Path) -> None:
    """Whole numbers up to 20 times as many, to 64 at least and to what is sensible at most."""
    replicas = [
        ("cluster.replicas", 2, "replicas", 64), ("cluster.replicas", 8, "replicas", 160),
        ("cluster.replicas", 100, "replicas", 256),
    ]  # fmt: skip
    for key, own, name, most in replicas:
        base = base_of(read_raw(study, [override(key, own, key)]), 1)
        knob = next(knob for knob in knobs_of(base.study()) if knob.id == name)
        assert (knob.low, knob.value, knob.high) == (1, own, most)
    key = "engine.max_num_seqs"
    seats = knobs_of(base_of(read_raw(study, [override(key, 48, key)]), 1).study())
    assert settings_of(seats, {"max_num_seqs": "48"}) == {}
    assert settings_of(seats, {"max_num_seqs": "64"}) == {key: 64}


def test_each_pool_and_each_limit_has_knobs_of_its_own(study: Path) -> None:
    text = STUDY.replace(
        "{gpu: a100-80gb-sxm}",
        "{pools: [{name: fast, gpu: h100-sxm}, {name: slow, gpu: l40s, replicas: 2}]}",
    ).replace("ttft_s: 0.5, tpot_s: 0.03, attainment: 0.9", "ttft_p99_s: 0.5")
    (study.parent / "pools.yaml").write_text(text)
    base = base_of(read_raw(study.parent / "pools.yaml", []), 1)
    knobs = knobs_of(base.study())
    known = {knob.id: knob.value for knob in knobs}
    assert (known["replicas_0"], known["replicas_1"]) == (1, 2)
    assert (known["gpu_0"], known["gpu_1"]) == ("h100-sxm", "l40s")
    assert known["ttft_p99_s"] == 0.5
    assert not {"replicas", "gpu", "tp", "attainment"} & known.keys()
    settings = settings_of(knobs, {"replicas_1": "3", "ttft_p99_s": "0.4"})
    point = base.plan(settings, 1).points[0].study
    assert point.cluster.gpus == 4
    assert point.slo is not None
    assert point.slo.ttft_p99_s == 0.4


def test_a_long_study_is_cut_and_that_is_said(study: Path) -> None:
    text = STUDY.replace("1500", "1000000")
    (study.parent / "long.yaml").write_text(text)
    base = base_of(read_raw(study.parent / "long.yaml", []), 1)
    assert base.notes == ("each run has 20,000 requests here",)
    assert base.raw["workload"]["num_requests"] == 20_000
    with pytest.raises(ValueError, match="--point 7, expected 1 to 2"):
        base_of(read_raw(study, []), 7)


@pytest.mark.parametrize("name", ["mixed_gpus", "remote_kv", "state_chats"])
def test_every_point_can_be_explored(name: str) -> None:
    """Of pools and of mappings, and where points have a baseline: what runs is the point's own."""
    loaded = read_raw(name, [])
    length = {"workload", "seeds", "sweep", "baseline"}
    for point in prepare(loaded).points:
        base = base_of(loaded, point.number)
        found = base.plan({}, 1).points[0].study.resolved()
        wanted = point.study.resolved()
        assert all(found[key] == wanted[key] for key in wanted if key not in length), point.number
        assert knobs_of(base.study())
