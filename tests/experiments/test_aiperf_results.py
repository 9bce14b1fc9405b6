"""AIPerf's results since its loads have phases: what was asked is read from the one that counts."""

from pathlib import Path
from typing import Any

import pytest

from experiments.study.errors import StudyError
from experiments.validation.predict import plan
from experiments.validation.rows import read_table
from tests.experiments.test_client_results import AIPERF, write


def phased(*phases: dict[str, Any], **config: Any) -> dict[str, Any]:
    """A result of AIPerf since its loads have phases (src/aiperf/config/phases.py)."""
    endpoint = {"type": "chat", "streaming": True}
    models = {"items": [{"name": "meta-llama/Llama-2-7b-hf"}]}
    warm = {"name": "warmup", "type": "concurrency", "concurrency": 2, "requests": 5}
    asked = {"models": models, "endpoint": endpoint, "phases": [warm, *phases], **config}
    return AIPERF | {"input_config": asked}


@pytest.mark.parametrize(
    ("phase", "process", "rate", "cap", "shape"),
    [
        ({"type": "concurrency", "concurrency": 16}, "closed loop", None, 16, None),
        ({"type": "concurrency"}, "closed loop", None, 1, None),
        ({"type": "poisson", "rate": 12.0, "concurrency": 64}, "poisson", 12.0, 64, None),
        ({"type": "gamma", "rate": 9.0, "smoothness": 0.5}, "gamma", 9.0, None, 0.5),
        ({"type": "constant", "rate": 9.0}, "constant", 9.0, None, None),
    ],
)
def test_aiperfs_phases(
    phase: dict[str, Any],
    process: str,
    rate: float | None,
    cap: int | None,
    shape: float | None,
    tmp_path: Path,
) -> None:
    """A rate with a cap is no closed loop."""
    path = write(tmp_path / "a.json", phased({"name": "profiling", **phase}))
    table = read_table(path, {"gpu": "h100"})
    row = table.runs[0].base
    assert (row.arrival_process, row.request_rate_rps) == (process, rate)
    assert (row.max_concurrency, row.burstiness) == (cap, shape)
    assert not plan(table, seeds=1).skipped


@pytest.mark.parametrize(
    "phase",
    [
        {"type": "fixed_schedule"}, {"type": "user_centric", "rate": 3.0, "users": 9},
        {"type": "constant", "rate": 9.0, "rate_ramp": {"duration": 10}},
        {"type": "poisson", "rate_series": {"points": [[0, 1], [9, 4]]}},
        {"type": "concurrency", "concurrency": 8, "prefill_concurrency": 2},
    ],
)  # fmt: skip
def test_aiperfs_phases_that_change_are_refused(phase: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", phased({"name": "profiling", **phase}))
    (skipped,) = plan(read_table(path, {"gpu": "h100"}), seeds=1).skipped
    assert "a rate that changes is not told" in skipped.reason


def test_aiperfs_two_phases_are_refused(tmp_path: Path) -> None:
    phases = [{"name": name, "kind": "profiling", "type": "constant", "rate": 1} for name in "ab"]
    with pytest.raises(StudyError, match="phases: 2 that count, expected one"):
        read_table(write(tmp_path / "a.json", phased(*phases)), {"gpu": "h100"})


def test_aiperfs_prompts_repeat_where_it_says_so(tmp_path: Path) -> None:
    """A server that caches prefixes finds those of before."""
    steady = {"name": "profiling", "type": "concurrency", "concurrency": 4}
    for entries, distinct in ((50, 50), (1000, 203)):
        data = [{"name": "main", "type": "synthetic", "entries": entries}]
        path = write(tmp_path / f"{entries}.json", phased(steady, datasets=data))
        (task,) = plan(read_table(path, {"gpu": "h100"}), seeds=1).tasks
        prefixes = task.traffic[0].requests.prefixes
        assert (prefixes is None) == (distinct == 203)
        told = [note for note in task.notes if "distinct ones in turn" in note]
        assert told == (
            []
            if distinct == 203
            else ["prompts: 50 distinct ones in turn, so many the client drew from"]
        )
