"""What decides of a candidate before it is simulated under its traffic: what it can serve at most,
and what a request gets that is alone."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from experiments.planning.promises import limits_of
from experiments.planning.sizes import Rates
from experiments.running.capacity import capacity_per_s
from experiments.running.lone import lone_ttft_s
from experiments.study.build import looks_at_nothing, scenario_of
from experiments.study.document import Study
from experiments.study.pools import by_pool
from experiments.study.requests import requests_of
from sim.ceilings import ceilings_of
from sim.settings.pools import DECODE, PREFILL
from sim.settings.scenario import Scenario
from workloads.requests import Requests


def rates_of(study: Study) -> Rates:
    """Return what a replica of each pool serves of the traffic's mix at most: see ``Sizes.rates``.

    Of pools that answer whole requests it is simulated, one replica of each overloaded. Of pools
    with roles no replica is ever alone, and turns of sessions come when the ones before have been
    answered, so there it is what their hardware cannot exceed.
    """
    if study.cluster.has_roles or study.workload.has_sessions:
        return _ceilings(study)
    alone = []
    for _, one in by_pool(study):
        cluster = one.cluster.model_copy(update={"replicas": 1})
        alone.append(capacity_per_s(one.model_copy(update={"cluster": cluster})))
    if len(alone) > 1 and looks_at_nothing(study):
        return ((min(alone),) * len(alone),)  # each is sent as much as the slowest
    return (tuple(alone),)


def _ceilings(study: Study) -> Rates:
    """Requests per second by what answers take, and by what prompts do unless they are cached."""
    scenario = scenario_of(study, study.seed)
    requests = requests_of(study, study.seed)
    tokens = "decode_tokens_per_s" if scenario.has_roles else "output_tokens_per_s"
    answers, prompts = [], []
    for pool in scenario.pools:
        found = ceilings_of(pool)
        decoded = 0.0 if pool.role == PREFILL else found[tokens]
        answers.append(pool.data_parallel_size * decoded / float(requests.output_tokens.mean()))
        read = 0.0 if pool.role == DECODE else found["prefill_tokens_per_s"]
        prompts.append(pool.data_parallel_size * read / float(requests.prompt_tokens.mean()))
    cached = requests.prefixes is not None
    return (tuple(answers),) if cached else (tuple(answers), tuple(prompts))


Lone = tuple[float, str]
"""Seconds of what a request takes that is alone, and the beginning of a sentence about it."""


def floor_of(study: Study, scenario: Scenario) -> str:
    """Say that no load is low enough: what a request takes that is alone is beyond a limit.

    Empty where it is not. The fastest pool counts.
    """
    slo = study.slo
    assert slo is not None
    requests = requests_of(study, study.seed)
    for key, limit in limits_of(slo).items():
        lone_s, what = _LONE[limit.latency](scenario, requests, limit.share)
        if lone_s > limit.limit_s:
            return f"{what}, more than {key} = {limit.limit_s:g} s, at any number of replicas"
    return ""


def _prompt(scenario: Scenario, requests: Requests, share: float) -> Lone:
    """The prefill of the prompts that so large a share is shorter than; nothing if cached."""
    if requests.prefixes is not None:
        return 0.0, ""
    prompt, part = _longest(requests.prompt_tokens, share)
    longest = max(pool.max_model_len for pool in scenario.pools if pool.role != DECODE)
    prompt = min(prompt, longest - 1)
    lone_s = lone_ttft_s(scenario, prompt)
    which = f"the prefill of {prompt:,} tokens, which {part} of the prompts have at least"
    return lone_s, f"{which}, takes {lone_s:.3g} s alone"


def _token(scenario: Scenario, requests: Requests, share: float) -> Lone:
    """Any token after the first."""
    lone_s = _fastest_token_s(scenario)
    return lone_s, f"a token takes {lone_s * 1e3:.3g} ms of a request that is alone"


def _answer(scenario: Scenario, requests: Requests, share: float) -> Lone:
    """The tokens after the first of the answers that so large a share is shorter than."""
    tokens, part = _longest(requests.output_tokens, share)
    longest = max(pool.max_model_len for pool in scenario.pools)
    tokens = min(tokens, longest - 1)
    lone_s = (tokens - 1) * _fastest_token_s(scenario)
    which = f"{tokens:,} tokens, which {part} of the answers have at least"
    return lone_s, f"{which}, take {lone_s:.3g} s alone"


_LONE: dict[str, Callable[[Scenario, Requests, float], Lone]] = {
    "ttft": _prompt, "tpot": _token, "e2e": _answer,
}  # fmt: skip


def _longest(tokens: npt.NDArray[np.int64], share: float) -> tuple[int, str]:
    """Return so many tokens that hardly more than the rest of a share have them, and that rest."""
    found = int(np.quantile(tokens, share, method="lower"))
    return found, f"{100 * float((tokens >= found).mean()):.3g}%"


def _fastest_token_s(scenario: Scenario) -> float:
    pools = [pool for pool in scenario.pools if pool.role != PREFILL]
    return float(min(ceilings_of(pool)["fastest_token_s"] for pool in pools))
