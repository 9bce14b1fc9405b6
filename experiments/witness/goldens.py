"""Scenarios with what vLLM made of them, as small files: so tests keep it without vLLM."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from experiments.witness.comparison import Scheduling, blank, differences, name_of
from experiments.witness.drawing import draw
from experiments.witness.features import FEATURES
from experiments.witness.ours import simulated
from experiments.witness.scenario import Outcome, Scenario

MOST_REQUESTS, MOST_STEPS = 14, 150
"""Larger scenarios are left out: files are to be small."""


class Golden(NamedTuple):
    """One scenario, and vLLM's outcome."""

    feature: str
    number: int
    scenario: Scenario
    outcome: Outcome


def write(release: Scheduling, folder: Path, each: int, most: int = 400) -> Path:
    """Write a few scenarios of every feature that is compared, as many as possible with preemption.

    Where a release is another matter by a name, those are left out that show it.

    Args:
        release: whose scheduler is asked.
        folder: takes VERSION.jsonl.
        each: scenarios of a feature.
        most: so many are looked at to find them.

    Raises:
        FileExistsError: the file is there already.
    """
    path = folder / f"{release.version}.jsonl"
    with path.open("x") as file:
        for feature in FEATURES:
            if not blank(release, feature).lacks:
                for golden in _chosen(release, feature, each, most):
                    file.write(_line(golden) + "\n")
    return path


def _chosen(release: Scheduling, feature: str, each: int, most: int) -> list[Golden]:
    preempted: list[Golden] = []
    others: list[Golden] = []
    for number in range(most):
        scenario = draw(feature, number, release.lacks)
        if len(scenario.requests) > MOST_REQUESTS:
            continue
        golden = Golden(feature, number, scenario, release.serve(scenario))
        if name_of(release.version, feature) and differences(
            simulated(scenario, release.version), golden.outcome
        ):
            continue
        if len(golden.outcome.steps) <= MOST_STEPS:
            (preempted if any(golden.outcome.preemptions) else others).append(golden)
        if len(preempted) >= each - 1 and others:
            break
    found = [*preempted[: each - 1], *others]
    return sorted(found[:each], key=lambda golden: golden.number)


def _line(golden: Golden) -> str:
    outcome = asdict(golden.outcome)
    runs = groupby(golden.outcome.steps)
    outcome["steps"] = [[len(list(run)), *step] for step, run in runs]
    data = {"feature": golden.feature, **golden.scenario.data(golden.number), "outcome": outcome}
    return json.dumps(data, separators=(",", ":"))


def read(path: Path) -> Iterator[Golden]:
    """Read what ``write`` wrote."""
    for line in path.read_text().splitlines():
        data = json.loads(line)
        outcome = data.pop("outcome")
        outcome["steps"] = [step for count, *step in outcome["steps"] for _ in range(count)]
        yield Golden(data["feature"], data["id"], Scenario.of(data), Outcome.of(outcome))
