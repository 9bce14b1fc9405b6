"""A search that is killed in its midst."""

import subprocess
import sys
import time
from pathlib import Path

from experiments.running.work_folder import WORK

ROOT = Path(__file__).resolve().parents[2]


def kill_search(kind: str, path: Path, out: Path) -> int:
    """Start a search as a process, and kill it as soon as three runs are kept. Return how many are.

    It leaves nothing but those.
    """
    words = [sys.executable, "-m", "experiments", kind, str(path), "--no-figures",
             "--out", str(out), "--jobs", "1"]  # fmt: skip
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((out / WORK).glob("*.arrow"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert [each.name for each in out.iterdir()] == [WORK]
    kept = len(list((out / WORK).glob("*.arrow")))
    assert kept >= 3
    return kept
