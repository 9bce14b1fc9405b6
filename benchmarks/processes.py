"""CPU time of whole processes: ``python -m experiments.run`` from the start of Python to its end.

Nothing is left out: libraries, checks, simulation, metrics, tables, the report, pictures if asked.
The least of several counts, so that the first one may write the byte code that the others find. The
yardstick is a timeout of a bare SimPy process, measured before and after, the least as well: how
many of them a process takes differs less between machines than its seconds.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import bare_timeout_s, process_cost
from experiments.cli.command import Parser, fail, run_command, start, whole_number
from experiments.running.versions import machine

TABLE = """\
| whole process | requests | CPU time | memory | a timeout | timeouts | with {us} us each |
| --- | --- | --- | --- | --- | --- | --- |"""
ROW = (
    "| {about} | {requests} | {seconds:.2f} s | {mib:.0f} MiB | {timeout_us:.2f} us "
    "| {timeouts:,.0f} thousand | {there:.2f} s |"
)
ELSEWHERE_US = 0.65
"""A timeout of the machine that figures are stated for."""
LONGER = 3
"""Of what takes long so many times fewer runs."""
SMALL: Mapping[str, Any] = {
    "model": "llama-3-8b",
    "cluster": {"gpu": "h100"},
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 8},
        "lengths": {
            "prompt": {"distribution": "constant", "value": 512},
            "output": {"distribution": "constant", "value": 64},
        },
        "num_requests": 1000,
    },
}
"""One point."""
POINTS: Mapping[str, Any] = {
    **SMALL,
    "workload": {**SMALL["workload"], "num_requests": 200},
    "sweep": {
        "workload.arrivals.rate_per_s": list(range(1, 51)),
        "engine.max_num_seqs": [4, 8, 16, 32, 64, 128, 192, 256, 384, 512],
    },
}
"""500 points."""
MOONCAKE: Mapping[str, Any] = {
    "model": "llama-3.1-8b",
    "cluster": {"gpu": "h100-sxm", "replicas": 4},
    "engine": {"enable_prefix_caching": True, "max_model_len": 131072},
}
"""Beside the trace: four replicas with prefix caching."""
DAY: Mapping[str, Any] = {
    "model": "llama-3.1-8b",
    "cluster": {"gpu": "h100-sxm", "replicas": 40, "router": "cache_aware"},
    "engine": {"max_model_len": 16384, "api_server_count": 1},
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 4.63},
        "sessions": {
            "turns": {"distribution": "exponential", "mean": 5},
            "think_s": 20,
            "think_law": "exponential",
            "added": {"distribution": "lognormal", "mean": 80, "cv": 1.5, "max": 4000},
            "system_tokens": 1500,
            "max_context_tokens": 16384,
        },
        "lengths": {
            "prompt": {"distribution": "lognormal", "mean": 600, "cv": 1.5, "max": 8000},
            "output": {"distribution": "lognormal", "mean": 300, "cv": 0.8, "max": 2000},
        },
        "num_requests": 2_000_000,
    },
}
"""A day of conversations, as long as those of the bundled ``chat_sessions``, on 40 replicas."""
MANY: Mapping[str, Any] = {
    **DAY,
    "cluster": {**DAY["cluster"], "replicas": 1000},
    "workload": {
        **DAY["workload"],
        "arrivals": {"process": "poisson", "rate_per_s": 115.75},
        "num_requests": 100_000,
    },
}
"""Three minutes of 1,000 replicas, each as busy as those of the day."""
HOUR: Mapping[str, Any] = {**MANY, "workload": {**MANY["workload"], "num_requests": 2_083_500}}
"""An hour of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a row per process."""
    return run_command(_command, _parser(), argv, "the rest was not measured")


def _command(options: argparse.Namespace) -> int:
    if options.mooncake is not None and not options.mooncake.is_file():
        return fail(f"--mooncake {options.mooncake}: no such file")
    plain = ("--no-figures",)
    rows: list[tuple[str, str, Mapping[str, Any], Sequence[str]]] = [
        ("one point, no pictures", "1,000", SMALL, plain),
        ("one point", "1,000", SMALL, ()),
    ]
    if not options.short:
        rows.append(("500 points, no pictures", "200 each", POINTS, plain))
    if options.mooncake is not None:
        workload = {"trace": str(options.mooncake.resolve())}
        about = "Mooncake trace, four replicas, prefix caching, no pictures"
        rows.append((about, "all", {**MOONCAKE, "workload": workload}, plain))
    if options.day:
        rows = [
            ("a day of chats, 40 replicas, no pictures", "2,000,000", DAY, plain),
            ("three minutes of them, 1,000 replicas, no pictures", "100,000", MANY, plain),
        ]
    if options.hour:
        rows = [("an hour of chats, 1,000 replicas, no pictures", "2,083,500", HOUR, plain)]
    print(f"Engine: {machine()['engine']}. Least of {options.runs}, long ones a third of that.")
    print(TABLE.format(us=ELSEWHERE_US))
    for about, requests, study, more in rows:
        long = study in (POINTS, DAY, MANY, HOUR)
        runs = -(-options.runs // LONGER) if long else options.runs
        print(_measured(about, requests, study, more, runs), flush=True)
    return 0


def _measured(
    about: str, requests: str, study: Mapping[str, Any], more: Sequence[str], runs: int
) -> str:
    """Return a row: the least of so many runs, beside a timeout just before and after them."""
    timeout_s = bare_timeout_s()
    seconds, mib = min(_cost(study, more) for _ in range(runs))
    timeout_s = min(timeout_s, bare_timeout_s())
    return ROW.format(
        about=about, requests=requests, seconds=seconds, mib=mib, timeout_us=timeout_s * 1e6,
        timeouts=seconds / timeout_s / 1e3, there=seconds / timeout_s * ELSEWHERE_US / 1e6,
    )  # fmt: skip


def _cost(study: Mapping[str, Any], options: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak memory, MiB, of one run with one job."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(json.dumps(study), encoding="utf-8")
        return process_cost(str(path), "--jobs", "1", "--out", str(Path(folder) / "out"), *options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument(
        "--runs", type=whole_number, default=9, metavar="N",
        help="of each, of long ones a third; the least counts",
    )  # fmt: skip
    parser.add_argument("--short", action="store_true", help="leave the 500 points out")
    parser.add_argument(
        "--day", action="store_true",
        help="a day of two million requests with sessions instead, minutes a run",
    )  # fmt: skip
    parser.add_argument(
        "--hour", action="store_true", help="an hour of 1,000 such replicas instead, minutes a run"
    )
    parser.add_argument(
        "--mooncake", type=Path, metavar="FILE",
        help="a trace of Mooncake (conversation_trace.jsonl), which is then replayed as well",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    start(main)
