"""How fast the simulator is, how much memory it takes, and how both grow."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import growth, help_s, measure, smallest_study_s, whole_process
from experiments.cli.command import Parser, fail, run_command, start, whole_number

NAMES = ("W1", "W2", "W3", "W4", "W5")
KEYS = (
    "workload", "requests", "seconds", "requests_per_s", "steps", "steps_per_s", "peak_mib",
    "timeouts_per_request", "timeouts_per_step", "offered_per_s", "saturated", "process_s",
    "process_mib",
)  # fmt: skip
"""What ``--json`` tells of a workload."""

LINES = """\
     {requests:,} requests in {seconds:.2f} s of CPU time, measured in {metrics_s:.2f} s more
     {requests_per_s:,.0f} requests/s, {steps_per_s:,.0f} steps/s, peak memory {peak_mib:.0f} MiB
     {timeouts_per_request:.1f} timeouts a request, {timeouts_per_step:.2f} a step, \
of {timeout_us:.2f} us each; {preemptions_per_request:.2f} preemptions a request
     as a study, the whole process: {process_s:.2f} s of CPU time, \
{process_per_s:,.0f} requests/s, {process_mib:.0f} MiB
     offered {offered_per_s:.1f} requests/s, engines busy {busy_percent:.0f}%: {queue}"""
QUEUE = {True: "the queue grows", False: "the queue does not grow", None: "too few to tell a queue"}
TABLE = """\
| | workload | requests | whole process | requests/s | memory | simulation alone | steps/s |
| --- | --- | --- | --- | --- | --- | --- | --- |"""
TABLE_ROW = (
    "| {workload} | {about} | {requests:,} | {process_s:.1f} s | {process_per_s:,.0f} | "
    "{process_mib:.0f} MiB | {requests_per_s:,.0f} requests/s | {steps_per_s:,.0f} |"
)
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
    """Return 1 when a benchmark is not loaded as it says: its queue grows below capacity, or does
    not above it.
    """
    if arguments.trace is not None and not arguments.trace.is_file():
        return fail(f"--trace {arguments.trace}: no such file")
    print(
        "A timeout is one of a bare SimPy process, measured beside each workload. "
        "Times are of one core."
    )
    traces = {"W3": arguments.trace}
    results = [
        _one(name, arguments.requests, traces.get(name), not arguments.table)
        for name in arguments.workloads
    ]
    print(
        f"start-up: experiments.run --help takes {help_s():.2f} s of CPU time, "
        f"the smallest study {smallest_study_s():.2f} s"
    )
    if arguments.table:
        print("\n".join([TABLE, *(TABLE_ROW.format(**_rounded(one)) for one in results)]))
    if arguments.json:
        for figures in results:
            print(json.dumps({key: figures[key] for key in KEYS}))
    wrong = [fault for figures in results if (fault := _fault(figures))]
    for fault in wrong:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if wrong else 0


def _fault(figures: dict[str, Any]) -> str:
    """Say what is wrong with the load of a benchmark; nothing if it is right or cannot be told."""
    from benchmarks.workloads import BENCHMARKS

    benchmark, grows = BENCHMARKS[figures["workload"]], _grows(figures)
    if grows is None or grows == benchmark.overloaded:
        return ""
    claim = f"{benchmark.load:.0%} of its capacity" if benchmark.load else "less than its capacity"
    return f"{benchmark.name} is to be offered {claim}, but {QUEUE[grows]}"


def _grows(figures: dict[str, Any]) -> bool | None:
    return None if math.isnan(figures["saturated"]) else bool(figures["saturated"])


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Rates to three digits: the third already moves with the machine."""
    rates = ("process_per_s", "requests_per_s", "steps_per_s")
    return figures | {name: float(f"{figures[name]:.3g}") for name in rates}


def _one(name: str, count: int | None, trace: Path | None, grow: bool) -> dict[str, Any]:
    from benchmarks.workloads import BENCHMARKS

    figures = measure(name, count, trace) | {"about": BENCHMARKS[name].about}
    figures |= whole_process(name, figures["requests"], figures["offered_per_s"], trace)
    figures |= {"busy_percent": 100 * figures["busy_share"], "queue": QUEUE[_grows(figures)]}
    print(f"{name}   {figures['about']}\n{LINES.format(**figures)}", flush=True)
    if not grow:
        return figures
    print(HEADING, flush=True)
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
    parser.add_argument(
        "--table", action="store_true",
        help="print the README's table, and not how cost grows",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print an object per workload, last")
    return parser


def _workload(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r}, expected one of {', '.join(NAMES)}")
    return text


if __name__ == "__main__":
    start(main)
