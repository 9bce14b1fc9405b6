"""What a point can serve at most: a short run with twice as many requests as it could ever take.

An SLO allows less: this is the rate beyond which every queue grows. The requests are those of the
point, all seats are taken, and the middle half of the answers is counted, so neither filling up nor
draining is. 10,000 requests give it within some 1.5%.
"""

from functools import lru_cache

import numpy as np

from experiments.study.build import looks_at_nothing, scenario_of
from experiments.study.document import Study
from experiments.study.pools import by_pool
from experiments.study.requests import requests_of
from sim.ceilings import ceilings_of
from sim.settings.pools import PREFILL
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from workloads.arrivals import Poisson
from workloads.workload import Workload

REQUESTS = 10_000
FILLINGS = 12
"""At least so many times the seats."""
OVERLOAD = 2.0
"""Requests all at one instant would be no such run: prompts pass the API server in time
proportional to their tokens, so that the short ones come first."""


def capacity_per_s(study: Study) -> float:
    """Return how many requests per second a point answers at most, in its steady mix of lengths.

    Of replicas without a prefix cache one is simulated: under an overload none knows of the others.
    Pools add up where the router looks at what they can do; else each replica is sent as much as
    the slowest. Where some compute prompts for others, all of them are simulated together.

    Raises:
        ValueError: the point cannot be simulated.
    """
    if study.cluster.has_roles:
        return _measured(_overloaded(study, 1))
    kinds: dict[str, tuple[Study, int]] = {}
    for _, alone in by_pool(study):
        one = _with_replicas(alone, 1)
        written = one.model_dump_json(exclude={"sweep"})
        first, others = kinds.get(written, (one, 0))
        kinds[written] = (first, others + alone.cluster.engines)
    whole = study.cluster.engines
    found = [(_of_replicas(one, count, whole), count) for one, count in kinds.values()]
    if len(found) > 1 and looks_at_nothing(study):
        return whole * min(rate / count for rate, count in found)
    return sum(rate for rate, _ in found)


def _with_replicas(study: Study, replicas: int) -> Study:
    """Return a study of one pool with so many replicas."""
    cluster = study.cluster.model_copy(update={"replicas": replicas})
    return study.model_copy(update={"cluster": cluster})


def _of_replicas(study: Study, replicas: int, whole: int) -> float:
    """Requests per second of replicas that are alike, among ``whole`` that share the client."""
    alone, clients = 1, -(-whole // replicas)
    if study.workload.prefixes is None:
        alone, clients = replicas, whole
    else:
        study = _with_replicas(study, replicas)
    return alone * _measured(_overloaded(study, clients))


def _overloaded(study: Study, clients: int) -> str:
    """Write down a point whose requests come anyhow, to one of so many that share the client."""
    client = study.client.model_copy(update={"timeout_s": None})
    limit = client.max_concurrency
    if limit is not None:
        client = client.model_copy(update={"max_concurrency": -(-limit // clients)})
    workload = study.workload.model_copy(
        update={"arrivals": Poisson(rate_per_s=1.0), "num_requests": REQUESTS, "duration_s": None}
    )
    update = {"workload": workload, "client": client, "stop_s": None}
    update |= {"warmup_s": None, "warmup_fraction": None}  # what is measured changes nothing
    return study.model_copy(update=update).model_dump_json(exclude={"sweep"})


@lru_cache(maxsize=256)
def _measured(point: str) -> float:
    """Overload a point that is written down, with its number of requests and arrivals open."""
    study = Study.model_validate_json(point)
    scenario = scenario_of(study, study.seed)
    count = max(REQUESTS, FILLINGS * _seats(scenario, study))
    rate = OVERLOAD * _ceiling_per_s(scenario, study.workload, study)
    update = {"arrivals": Poisson(rate_per_s=rate), "num_requests": count}
    study = study.model_copy(update={"workload": study.workload.model_copy(update=update)})
    result = simulate(scenario, requests_of(study, study.seed))
    ends_s = np.sort(result.requests["finish_s"])
    ends_s = ends_s[: len(ends_s) - int(np.isnan(ends_s).sum())]  # those that never fit are last
    first, last = len(ends_s) // 4, 3 * len(ends_s) // 4
    if last == first or ends_s[last] == ends_s[first]:
        return float("nan")
    served = (last - first) / float(ends_s[last] - ends_s[first])
    return served * count / len(ends_s)  # the rejected cost nothing, and are requests as well


def _seats(scenario: Scenario, study: Study) -> int:
    """Most requests that are answered at the same time; with roles, as the blocks allow."""
    if not scenario.has_roles:
        return scenario.pool.engine.max_num_seqs * scenario.replicas
    requests = requests_of(study, study.seed)
    tokens = float((requests.prompt_tokens + requests.output_tokens).mean())
    return sum(
        min(pool.engine.max_num_seqs, int(pool.ledger.kv_tokens / tokens) + 1) * pool.replicas
        for pool in scenario.pools
        if pool.role != PREFILL
    )


def _ceiling_per_s(scenario: Scenario, workload: Workload, study: Study) -> float:
    """What the hardware cannot exceed, in requests of this mix."""
    requests = requests_of(study, study.seed)
    cached, roles = workload.prefixes is not None, scenario.has_roles
    answers = prompts = 0.0
    for pool in scenario.pools:
        ceilings = ceilings_of(pool)
        if pool.role != PREFILL:
            name = "decode_tokens_per_s" if roles else "output_tokens_per_s"
            answers += pool.replicas * ceilings[name]
        prompts += pool.replicas * ceilings["prefill_tokens_per_s"]
    answers /= float(requests.output_tokens.mean())
    return answers if cached else min(answers, prompts / float(requests.prompt_tokens.mean()))
