"""Simulates a scenario: all replicas at once, or some where they know nothing of each other."""

from collections.abc import Sequence as SequenceOf
from math import inf

from sim.cluster import Cluster, MachineOf
from sim.engine.drafts.drafting import Acceptance
from sim.recording.assembling import result_of
from sim.recording.result import Result
from sim.recording.run import Part
from sim.recording.tape import Scratch
from sim.settings.scenario import Scenario
from workloads.requests import Requests


def simulate(
    scenario: Scenario,
    requests: Requests,
    stop_s: float = inf,
    scratch: Scratch | None = None,
    machine: MachineOf | None = None,
    acceptance: Acceptance | None = None,
) -> Result:
    """Simulate until every request has ended, or until ``stop_s``.

    Requests that cannot ever fit (longer than ``max_model_len``, or than the KV cache) are rejected
    when they arrive. Those unfinished at ``stop_s`` are in the result, with status 0. The steps of
    a long run go to ``scratch``, by default a file in the system's folder for temporary files.
    With ``machine`` batches are computed by what it returns for a scheduler, in place of prices.
    With ``acceptance`` drafts are right as it says, where a pool makes any, instead of drawn.
    """
    everything = range(scenario.replicas)
    part = simulate_part(scenario, requests, everything, stop_s, scratch, machine, acceptance)
    return whole(scenario, requests, [part], stop_s)


def can_be_split(scenario: Scenario, requests: Requests) -> bool:
    """Whether replicas know nothing of each other, so that ``simulate_part`` can take some only."""
    return scenario.routing(not requests.waits).parts > 1


def simulate_part(
    scenario: Scenario,
    requests: Requests,
    numbers: SequenceOf[int],
    stop_s: float = inf,
    scratch: Scratch | None = None,
    machine: MachineOf | None = None,
    acceptance: Acceptance | None = None,
) -> Part:
    """Simulate some replicas of a scenario: all, or any of one that ``can_be_split``.

    Raises:
        ValueError: some only, of replicas that depend on each other.
    """
    if len(numbers) < scenario.replicas and not can_be_split(scenario, requests):
        raise ValueError(
            f"replicas = {list(numbers)} of {scenario.replicas} depend on the others, "
            "expected all, or open arrivals and a router that looks at nothing"
        )
    cluster = Cluster(scenario, requests, numbers, stop_s, scratch, machine, acceptance)
    cluster.run()
    return cluster.part()


def whole(
    scenario: Scenario, requests: Requests, parts: SequenceOf[Part], stop_s: float = inf
) -> Result:
    """Put the parts of a run together: the same as if it had been simulated at once."""
    end_s = max(part.end_s for part in parts)
    if len(requests.known_arrival_s):
        end_s = max(end_s, float(requests.known_arrival_s[-1]))
    return result_of(requests, parts, scenario.api, end_s, stop_s)
