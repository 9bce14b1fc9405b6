"""``headroom capacity STUDY``: the highest rate that keeps the SLO, with an interval.

The answer goes to stdout, everything else to stderr. Exit status 0: done; 1: at some point
no value keeps the SLO and ``--fail-on-slo`` was given; 2: something is wrong with the study, an
option or the machine, said in one message; 130: interrupted, finished runs are kept.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from experiments.cli.command import run_command
from experiments.cli.search import search_command, search_parser

EXAMPLES = """examples:
  %(prog)s gpu_choice
  %(prog)s gpu_choice --set cluster.gpu=h100-sxm --half-width 0.01
  %(prog)s my_study.yaml --vary workload.arrivals.users
  %(prog)s my_study.yaml --vary workload.lengths.prompt.mean
  %(prog)s my_study.yaml --vary cluster.replicas
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = search_parser(
        "capacity",
        "Find the highest value of a key (by default the rate) at which the SLO is still kept.",
        "exit status 1 unless some value keeps the slo at every point",
        EXAMPLES,
    )
    parser.add_argument(
        "--vary", metavar="KEY", help="the dotted key to search (default: the workload's rate)"
    )
    parser.add_argument(
        "--half-width", type=float, metavar="SHARE",
        help="wanted half-width of the interval, as a share of the value (default: 0.02)",
    )  # fmt: skip
    kept = "finished runs are kept, run the same command to go on"
    return run_command(_command, parser, argv, kept)


def _command(options: argparse.Namespace) -> int:
    def changes(raw: dict[str, Any]) -> list[str]:
        if options.vary is not None:
            raw["vary"] = options.vary
        if options.half_width is not None:
            raw["half_width"] = options.half_width
        return []

    return search_command(options, "capacity", changes)
