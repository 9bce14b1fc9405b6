"""``headroom trace``: a file that Perfetto reads, of what happened in a stretch of a run."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from study_files import SMALL, write_study

from experiments.cli.trace import main
from experiments.running.api import run_study


def test_a_trace_of_steps_requests_and_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_study(tmp_path), tmp_path / "trace.json"
    assert main([str(path), "--point", "2", "--to", "100", "--out", str(out)]) == 0
    err = capsys.readouterr().err
    assert re.search(rf"{re.escape(str(out))} holds [\d,]+ events? of 0 to 100 s\n", err)
    trace = json.loads(out.read_text())
    assert trace["otherData"]["about"] == "point 2 (engine.max_num_seqs=4), seed 0"
    events = trace["traceEvents"]
    kinds = Counter(event["ph"] for event in events)
    assert kinds["b"] == kinds["e"] == 20 * 4, "a request, its queue, prefill and decoding"
    requests = run_study(path).requests.query("point == 2 and seed == 0")
    whole = {e["id"]: e for e in events if e["ph"] == "e" and e["name"].startswith("request")}
    for row in requests.to_dict("records"):
        assert whole[row["request"]]["ts"] == pytest.approx(1e6 * row["finish_s"])
    steps = [event for event in events if event["ph"] == "X"]
    tokens = sum(each["args"]["prefill_tokens"] for each in steps)
    assert tokens == requests["prompt_tokens"].sum()
    for earlier, later in pairwise(steps):
        assert later["ts"] >= earlier["ts"] + earlier["dur"] - 1e-6
    counters = {event["name"] for event in events if event["ph"] == "C"}
    assert counters == {"KV blocks", "waiting", "running"}
    waiting = [e["args"]["waiting"] for e in events if e["name"] == "waiting"]
    assert min(waiting) == waiting[-1] == 0


def test_a_stretch_only(tmp_path: Path) -> None:
    path, out = write_study(tmp_path), tmp_path / "part.json"
    assert main([str(path), "--from", "0.2", "--to", "0.5", "--out", str(out)]) == 0
    steps = [e for e in json.loads(out.read_text())["traceEvents"] if e["ph"] == "X"]
    assert steps
    assert all(e["ts"] < 0.5e6 and e["ts"] + e["dur"] > 0.2e6 for e in steps)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--point", "9"], "--point 9: expected a point from 1 to 2"),
        (["--seed", "-1"], "argument --seed: '-1', expected a whole number of at least 0"),
        (["--seed", "9" * 30], "--seed: '9"),
        (["--from", "5", "--to", "4"], "--to 4 is not after --from 5"),
        (["--from", "50000"], "--from 50000: the last step ends at "),
        (["--from", "soon"], "expected seconds of simulated time"),
        (["--set", "seeds=no"], "seeds"),
    ],
)
def test_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    path = write_study(tmp_path)
    assert main([str(path), "--out", str(tmp_path / "t.json"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists()
    (tmp_path / "mine.json").write_text("mine")
    assert main([str(path), "--out", str(tmp_path / "mine.json")]) == 2
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_a_policy_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its code runs where the command line allows it, as everywhere."""
    policy = (
        "from sim.engine.chunked_prefill import ChunkedPrefill\n\nclass Mine(ChunkedPrefill):\n"
    )
    (tmp_path / "mine_of_trace.py").write_text(f'{policy}    """As it is."""\n')
    given = SMALL.replace("max_num_seqs: 8", "scheduler: mine_of_trace:Mine")
    path, out = write_study(tmp_path, given), tmp_path / "t.json"
    assert main([str(path), "--out", str(out)]) == 2
    assert "runs only where the command line allows it" in capsys.readouterr().err
    words = ["--plugin", str(tmp_path / "mine_of_trace.py"), "--out", str(out)]
    assert main([str(path), *words]) == 0
    assert out.exists()


def test_other_kinds_have_no_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat_users", "--out", str(tmp_path / "t.json")]) == 2
    told = capsys.readouterr().err
    assert "of kind plan, expected serving, such as the winner.yaml that it leaves" in told
