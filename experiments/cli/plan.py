"""``headroom plan STUDY``: the cheapest deployment that keeps an SLO at a risk.

The answer goes to stdout, everything else to stderr. Exit status 0: done; 1: no candidate keeps the
SLO and ``--fail-on-slo`` was given; 2: something is wrong
with the study, an option or the machine, said in one message; 130: interrupted, finished runs are
kept.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.cli.command import run_command
from experiments.cli.search import search_command, search_parser

REPLICAS = "cluster.replicas"
EXAMPLES = """examples:
  %(prog)s qwen3_32b_h200
  %(prog)s chat_users --set growth=1.5 --set growth_cv=0.1
  %(prog)s my_plan.yaml --set "prices={h100-sxm: 2.1, h200-sxm: 2.9}"
  %(prog)s gpu_choice      (a study of serving: its sweep says what may be bought)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = search_parser(
        "plan",
        "Find the cheapest of many deployments that keeps the SLO, and say why not the others.",
        "exit status 1 if no candidate keeps the slo at the risk",
        EXAMPLES,
    )
    kept = "finished runs are kept, run the same command to go on"
    return run_command(_command, parser, argv, kept)


def _command(options: argparse.Namespace) -> int:
    return search_command(options, "plan", _candidates)


def _candidates(raw: dict[str, Any]) -> list[str]:
    """What a study of serving sweeps of its deployment is what may be bought."""
    sweep = raw.pop("sweep", None)
    left: dict[str, None] = {}
    if "candidates" not in raw and isinstance(sweep, dict):
        raw["candidates"] = _bought(sweep, left)
    if "candidates" not in raw and isinstance(sweep, list):
        rows = [_bought(row, left) if isinstance(row, dict) else row for row in sweep]
        raw["candidates"] = [row for row in rows if row]
    if not raw.get("candidates") and isinstance(raw.get("cluster"), dict):
        gpu = raw["cluster"].get("gpu")
        raw["candidates"] = {"cluster.gpu": [gpu]} if gpu is not None else {}
    return [
        f"{key} is swept there, which a plan does not: "
        + ("it is solved for" if key == REPLICAS else "its traffic is that of the study itself")
        for key in left
    ]


def _bought(row: Mapping[str, Any], left: dict[str, None]) -> dict[str, Any]:
    """Return what a row says of the deployment; its other keys are ``left``."""
    from experiments.planning.plan.reading import CANDIDATE_SECTIONS

    found = {}
    for key, value in row.items():
        if key == REPLICAS or key.split(".")[0] not in CANDIDATE_SECTIONS:
            left[key] = None
        else:
            found[key] = value
    return found
