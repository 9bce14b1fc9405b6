"""Random scenarios, scheduled by a release of vLLM and by us."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field, fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple, Protocol

from experiments.witness.drawing import draw
from experiments.witness.environment import Environment, version_key
from experiments.witness.features import FEATURES, LACKED
from experiments.witness.ours import simulated
from experiments.witness.scenario import Outcome, Scenario
from model.dataclass import dataclass

DRIVER = "experiments.witness.driver"
CHECKOUT = Path(__file__).parents[2]


class Named(NamedTuple):
    """What some releases do that we do not."""

    parts: str
    """Of a feature: all of them are needed for it to show."""
    since: str
    until: str
    """First and last release that do."""
    why: str


NAMED = (
    Named("ahead", "0.10", "0.10", "ends are not foreseen, who ends is in one more step"),
    Named(
        "priority", "0.10", "0.10", "who was thrown out stays in the step that it was in already"
    ),
    Named("handover priority", "0.18", "0.30", "who has blocks waits behind who does not fit"),
    Named("ahead handover", "0.27", "0.29", "who is thrown out loses the token that is under way"),
    Named("ahead store", "0.32", "", "the store is asked while the step before is computed"),
)
"""docs/witness.md has the lines; without ``until`` the newest release still does."""


def name_of(version: str, feature: str) -> str:
    """Return why a release is another matter with a feature; empty if it is not."""
    minor = version_key(version)[:2]
    return "; ".join(
        each.why
        for each in NAMED
        if set(each.parts.split()) <= FEATURES[feature]
        and version_key(each.since) <= minor
        and (not each.until or minor <= version_key(each.until))
    )


SINCE = {
    "handover": "0.18", "drafts": "0.30", "host": "0.31", "store": "0.32", "stages": "0.32",
    "handover drafts": "0.32", "handover groups": "0.22", "handover drafts groups": "0.33",
    "host groups": "0.33", "host drafts": "0.33", "states": "0.27", "exports": "0.32",
    "chunks": "0.14",
}  # fmt: skip
"""By parts of a feature, the first release that is compared with them (docs/witness.md)."""


@dataclass(slots=True)
class Tally:
    """One feature of one release."""

    compared: int = 0
    preempted: int = 0
    """Scenarios in which somebody was."""
    different: list[str] = field(default_factory=list)
    """Number of each scenario that came out otherwise, and the columns that did."""
    lacks: str = ""
    """What the release does not have."""


class Scheduling(Protocol):
    """Something that schedules as one release does."""

    @property
    def version(self) -> str:
        """Of vLLM."""

    @property
    def lacks(self) -> Sequence[str]:
        """Settings that it does not have."""

    def serve(self, scenario: Scenario) -> Outcome:
        """Let it schedule a scenario."""


@dataclass(frozen=True, slots=True)
class Release:
    """A process with the scheduler of one release."""

    process: "subprocess.Popen[str]"
    version: str
    lacks: list[str]
    """Settings that it does not have."""

    def serve(self, scenario: Scenario) -> Outcome:
        """Let it schedule a scenario.

        Raises:
            BrokenPipeError: it has failed.
        """
        return Outcome.of(_asked(self.process, json.dumps(scenario.data(0)) + "\n"))


@contextmanager
def running(environment: Environment, version: str) -> Iterator[Release]:
    """Run a release of vLLM for as long as it is needed.

    Raises:
        RuntimeError: it failed; with the end of its traceback.
    """
    command = [str(environment.python), "-m", DRIVER, str(environment.model)]
    path = os.pathsep.join(map(str, (environment.release(version), CHECKOUT)))
    variables = os.environ | {"PYTHONPATH": path}
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=variables,
        )  # fmt: skip
        try:
            yield Release(process, version, _asked(process, "")["lacks"])
        except BrokenPipeError:
            errors.seek(0)
            status = process.wait()
            raise RuntimeError(
                f"vLLM {version} failed: status {status}\n{errors.read()[-3000:]}"
            ) from None
        finally:
            process.kill()
            process.wait()


def _asked(process: "subprocess.Popen[str]", line: str) -> dict[str, list[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise BrokenPipeError
    data: dict[str, list[str]] = json.loads(answer)
    return data


def blank(release: Scheduling, feature: str) -> Tally:
    """Return the tally of a feature before its first scenario."""
    absent = {name for name in release.lacks if LACKED.get(name, name) in FEATURES[feature]}
    absent = set() if feature == "all" else absent
    absent |= {
        parts for parts, since in SINCE.items()
        if set(parts.split()) <= FEATURES[feature]
        and version_key(release.version) < version_key(since)
    }  # fmt: skip
    return Tally(lacks=", ".join(sorted(absent)))


def compare(release: Scheduling, feature: str, numbers: Sequence[int], tally: Tally) -> None:
    """Lay scenarios of a feature beside each other, and count them in its tally."""
    for number in () if tally.lacks else numbers:
        scenario = draw(feature, number, release.lacks)
        theirs = release.serve(scenario)
        columns = differences(simulated(scenario, release.version), theirs)
        tally.compared += 1
        tally.preempted += any(theirs.preemptions)
        if columns:
            tally.different.append(f"{number}: {', '.join(columns)}")


def differences(ours: Outcome, theirs: Outcome) -> list[str]:
    """Names of the columns that are not equal to the last bit."""
    names = [field.name for field in fields(Outcome)]
    return [name for name in names if getattr(ours, name) != getattr(theirs, name)]
