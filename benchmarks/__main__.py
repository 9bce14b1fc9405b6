"""``python -m benchmarks [W1 W2 ...] [--requests N] [--trace AZURE.csv] [--growth] [--json]``."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.measure import measure, start_up_s

NAMES = ("W1", "W2", "W3", "W4", "W5")


def _row(figures: dict[str, Any]) -> str:
    return (
        "{workload:>3} {requests:>9,} requests {seconds:8.2f} s {requests_per_s:9,.0f} requests/s "
        "{steps_per_s:10,.0f} steps/s {peak_mib:6.0f} MiB {timeouts_per_request:6.1f} timeouts a "
        "request {timeouts_per_step:5.2f} a step"
    ).format(**figures)


def main() -> None:
    """Measure and print; with ``--json``, one object per workload as the last lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"of {' '.join(NAMES)}; all")
    parser.add_argument("--requests", type=int, help="how many, instead of each one's own number")
    parser.add_argument("--trace", type=Path, help="Azure 2023 conversation trace, for W3")
    parser.add_argument("--growth", action="store_true", help="W1 with 1e3, 1e4, 1e5 requests too")
    parser.add_argument("--json", action="store_true", help="print one object per workload")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.workloads if name not in NAMES]
    if unknown:
        parser.error(f"workload {unknown[0]!r} is unknown, expected one of {', '.join(NAMES)}")
    names = arguments.workloads or list(NAMES)
    print("The unit is one timeout of a bare SimPy process, measured beside each workload.")
    results: list[dict[str, Any]] = []
    for name in names:
        figures = measure(name, arguments.requests, arguments.trace)
        results.append(figures)
        print(_row(figures), flush=True)
    if arguments.growth:
        for count in (1_000, 10_000, 100_000):
            print(_row(measure("W1", count)), flush=True)
    print(f"start-up: experiments.run --help takes {start_up_s()['help_cpu_s']:.2f} s of CPU")
    if arguments.json:
        for figures in results:
            print(json.dumps(figures))


if __name__ == "__main__":
    main()
