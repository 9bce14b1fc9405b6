"""What drafts gain beside a measured pair of runs: GLM-5.2 on sixteen H200, with and without MTP.

    python -m experiments.validation.draft_gains [glm52_h200_agentic.csv]

The measurement: llm-d blog, 2026-07-22: medians of the time between tokens at 32, 64 and 128
requests in flight. Simulated is the bundled study ``glm52_drafts``; docs/speculative_decoding.md
says what differs.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from experiments.study.build import scenario_of
from experiments.study.document import read_raw
from experiments.study.points import prepare
from experiments.study.requests import requests_of
from experiments.validation.published import number_of, options_and_table, read_published
from sim.measuring.metrics import summarise
from sim.simulation import simulate
from workloads.arrivals import ClosedLoop

Gaps = Mapping[int, tuple[float, float]]
"""Median ms between tokens by requests in flight: without drafts, and with."""

MEASURED: Final[Gaps] = {32: (28.6, 13.5), 64: (30.7, 14.7), 128: (35.1, 17.1)}
LAYOUT = "1P1D DEP16"


def read_measured(path: Path) -> Gaps:
    """Return the medians that the published table has of this layout.

    Raises:
        ValueError: it lacks a column or a row, or has cells that are no numbers.
    """
    found: dict[tuple[int, str], float] = {}
    for row in read_published(path, ("layout", "mtp", "concurrency", "itl_p50_ms")):
        if row["layout"] == LAYOUT:
            key = int(number_of(row, "concurrency", path)), row["mtp"]
            found[key] = number_of(row, "itl_p50_ms", path)
    try:
        return {users: (found[users, "no"], found[users, "yes"]) for users in MEASURED}
    except KeyError as error:
        raise ValueError(f"{path}: no row {error.args[0]} of {LAYOUT}") from None


def predicted() -> Gaps:
    """Simulate the bundled study: medians of TPOT in ms."""
    found: dict[int, dict[bool, float]] = {}
    for point in prepare(read_raw("glm52_drafts")).points:
        study = point.study
        scenario = scenario_of(study, 0)
        metrics = summarise(simulate(scenario, requests_of(study, 0)), scenario)
        told = study.engine.speculative
        drafts = told is not None and told.num_speculative_tokens > 0
        arrivals = study.workload.arrivals
        assert isinstance(arrivals, ClosedLoop)  # as the bundled study says
        found.setdefault(arrivals.users, {})[drafts] = 1e3 * metrics["tpot_p50_s"]
    return {users: (each[False], each[True]) for users, each in found.items()}


def main() -> None:
    """Print measured and simulated gaps and gains beside each other."""
    parser = argparse.ArgumentParser(prog="python -m experiments.validation.draft_gains")
    _, measured = options_and_table(parser, MEASURED, read_measured)
    simulated = predicted()
    print("| in flight | ms without, measured | simulated | ms with, measured | simulated | gain, "
          "measured | simulated | off |")  # fmt: skip
    print("| --- " * 8 + "|")
    for users, known in measured.items():
        found = simulated[users]
        gains = known[0] / known[1], found[0] / found[1]
        print(
            f"| {users} | {known[0]:.1f} | {found[0]:.1f} | {known[1]:.1f} | {found[1]:.1f} | "
            f"{gains[0]:.2f} | {gains[1]:.2f} | {gains[1] / gains[0] - 1:+.0%} |"
        )


if __name__ == "__main__":
    main()
