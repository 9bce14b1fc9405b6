"""The requests of one run of a study."""

from functools import lru_cache
from math import inf

from experiments.study.document import Study
from experiments.study.memory import most_requests
from experiments.study.pools import by_pool
from experiments.study.stamps import Stamp, stamp
from workloads.config import LATEST_S
from workloads.generate import generate
from workloads.requests import Requests
from workloads.workload import Workload

KEPT_WORKLOADS = 4
"""What a process keeps, as neighbouring runs often share it."""
LARGE = 100_000
"""Requests of a workload that is generated again rather than kept."""


def requests_of(study: Study, seed: int) -> Requests:
    """Generate the requests of one run.

    Raises:
        ValueError: a trace or a length file is missing, broken or empty, or nothing arrives, or
            not before ``stop_s``, or all of it before ``warmup_s``.
    """
    stamps = tuple(stamp(path) for path in study.workload.files)
    requests = _requests(study.workload.model_dump_json(), seed, with_prefixes(study), stamps)
    if len(requests) > LARGE:
        _requests.cache_clear()
    stop_s, known_s = study.stop_s, requests.known_arrival_s
    if stop_s is not None and len(known_s) and known_s[0] >= stop_s:
        raise ValueError(
            f"stop_s = {stop_s:g} is before any request arrives, expected more than "
            f"{known_s[0]:g} s"
        )
    if study.warmup_s is not None and len(known_s):
        last_s = known_s[known_s <= stop_of(study)][-1]
        if last_s < study.warmup_s:
            raise ValueError(
                f"warmup_s = {study.warmup_s:g} leaves nothing to measure, expected at most "
                f"{last_s:g} s, when the last request arrives"
            )
    return requests


def with_prefixes(study: Study) -> bool:
    """Tell whether somebody needs to know which prompts begin alike."""
    return any(alone.engine.enable_prefix_caching is not False for _, alone in by_pool(study))


@lru_cache(maxsize=KEPT_WORKLOADS)
def _requests(workload: str, seed: int, prefixes: bool, stamps: tuple[Stamp, ...]) -> Requests:
    requests = generate(
        Workload.model_validate_json(workload), seed, prefixes=prefixes, most=most_requests()
    )
    known_s = requests.known_arrival_s
    if len(known_s) and not known_s[-1] <= LATEST_S:
        raise ValueError(
            f"workload: the last request arrives at {known_s[-1]:g} s, expected at most "
            f"{LATEST_S:g} s"
        )
    if not len(requests):
        raise ValueError("workload: no request arrives, expected at least one")
    return requests


def stop_of(study: Study) -> float:
    """Return when the clock stops, seconds; infinity when everybody gets an answer."""
    return inf if study.stop_s is None else study.stop_s
