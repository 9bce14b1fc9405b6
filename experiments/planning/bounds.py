"""What decides of a candidate before it is simulated under its traffic: what it can serve at most,
and what a request gets that is alone."""

import numpy as np

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


def floor_of(study: Study, scenario: Scenario) -> str:
    """Say that no load is low enough: what a request takes that is alone is beyond a limit.

    Empty where it is not. The fastest pool counts.
    """
    slo = study.slo
    assert slo is not None
    requests = requests_of(study, study.seed)
    for key, limit in limits_of(slo).items():
        if limit.latency == "tpot":
            pools = [pool for pool in scenario.pools if pool.role != PREFILL]
            lone_s = min(ceilings_of(pool)["fastest_token_s"] for pool in pools)
            if lone_s > limit.limit_s:
                return (
                    f"a token takes {lone_s * 1e3:.3g} ms of a request that is alone, more than "
                    f"{key} = {limit.limit_s:g} s, at any number of replicas"
                )
        if limit.latency == "ttft" and requests.prefixes is None:
            prompt = int(np.quantile(requests.prompt_tokens, limit.share, method="lower"))
            so_long = 100 * float((requests.prompt_tokens >= prompt).mean())
            longest = max(pool.max_model_len for pool in scenario.pools if pool.role != DECODE)
            prompt = min(prompt, longest - 1)
            lone_s = lone_ttft_s(scenario, prompt)
            if lone_s > limit.limit_s:
                return (
                    f"the prefill of {prompt:,} tokens, which {so_long:.3g}% of the prompts have "
                    f"at least, takes {lone_s:.3g} s alone, more than {key} = {limit.limit_s:g} s, "
                    "at any number of replicas"
                )
    return ""
