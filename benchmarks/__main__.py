"""How fast the simulator is, how much memory it takes, and how both grow."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import growth, help_s, measure, smallest_study_s
from experiments.command import Parser, fail, run_command, start, whole_number

NAMES = ("W1", "W2", "W3", "W4", "W5")
KEYS = (
    "workload", "requests", "seconds", "requests_per_s", "steps", "steps_per_s", "peak_mib",
    "timeouts_per_request", "timeouts_per_step",
)  # fmt: skip
"""What ``--json`` tells of a workload."""

LINES = """\
     {requests:,} requests in {seconds:.2f} s of CPU time, measured in {metrics_s:.2f} s more
     {requests_per_s:,.0f} requests/s, {steps_per_s:,.0f} steps/s, peak memory {peak_mib:.0f} MiB
     {timeouts_per_request:.1f} timeouts a request, {timeouts_per_step:.2f} a step, \
of {timeout_us:.2f} us each; {preemptions_per_request:.2f} preemptions a request"""
HEADING = (
    "     grows with           requests  us/request  timeouts  us/step  timeouts   batch  output"
)
ROW = (
    "     {what:<18} {requests:>10,} {request_us:11.2f} {timeouts_per_request:9.1f} {step_us:8.2f}"
    "{timeouts_per_step:10.2f} {batch:7.1f} {output_tokens:7.0f}"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; with ``--json``, one object per workload as the last lines."""
    return run_command(_command, _parser(), argv, "the rest was not measured")


def _command(arguments: argparse.Namespace) -> int:
    if arguments.trace is not None and not arguments.trace.is_file():
        return fail(f"--trace {arguments.trace}: no such file")
    print(
        "A timeout is one of a bare SimPy process, measured beside each workload. "
        "Times are of one core."
    )
    results = [_one(name, arguments.requests, arguments.trace) for name in arguments.workloads]
    print(
        f"start-up: experiments.run --help takes {help_s():.2f} s of CPU time, "
        f"the smallest study {smallest_study_s():.2f} s"
    )
    if arguments.json:
        for figures in results:
            print(json.dumps({key: figures[key] for key in KEYS}))
    return 0


def _one(name: str, count: int | None, trace: Path | None) -> dict[str, Any]:
    from benchmarks.workloads import BENCHMARKS

    figures = measure(name, count, trace)
    print(f"{name}   {BENCHMARKS[name].about}\n{LINES.format(**figures)}\n{HEADING}", flush=True)
    for row in growth(name, figures["requests"], trace):
        ((key, value),) = row["change"].items()
        per_step, per_request = row["seconds"] / row["steps"], row["seconds"] / row["requests"]
        print(
            ROW.format(
                what=f"{key} {value:,}", step_us=per_step * 1e6, request_us=per_request * 1e6, **row
            ),
            flush=True,
        )
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="W", default=list(NAMES), type=_workload,
        help=f"of {' '.join(NAMES)}; all of them when none is named",
    )  # fmt: skip
    parser.add_argument(
        "--requests",
        type=whole_number,
        metavar="N",
        help="how many, instead of each one's own number",
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE",
        help="the Azure 2023 conversation trace, for W3; without it requests like those of it",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print an object per workload, last")
    return parser


def _workload(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r}, expected one of {', '.join(NAMES)}")
    return text


if __name__ == "__main__":
    start(main)
