"""What a request gets that is alone: no rate, however low, gives it less."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sim.lone import lone_steps_s
from sim.measuring.slo import Slo, percentile_limits
from sim.settings.scenario import Scenario


def lone_ttft_s(scenario: Scenario, prompt_tokens: int) -> float:
    """Return the time to first token of a prompt that meets nobody, in the fastest pool, seconds.

    The steps of its chunks one after the other, between the API server's two queues, in which it is
    alone; nothing of it is cached.
    """
    api = scenario.api
    seen_s = api.loop_output_s / api.servers / 2 + api.output_s
    api_s = float(api.reached_s(0.0, prompt_tokens)) + seen_s
    steps_s = min(
        pool.price.idle_start_s + lone_steps_s(pool, prompt_tokens) for pool in scenario.pools
    )
    return api_s + steps_s


def hopeless_limits(
    scenario: Scenario, slo: Slo, prompt_tokens: npt.NDArray[np.int64]
) -> Iterator[str]:
    """Say of each limit on TTFT that prompts miss by themselves that no rate can save it."""
    limits = [
        (one.limit_s, float(one.percent)) for one in percentile_limits(slo) if one.latency == "ttft"
    ]
    if slo.ttft_s is not None:
        limits.append((slo.ttft_s, 100 * slo.attainment))
    for limit_s, percent in limits:
        tokens = int(np.percentile(prompt_tokens, percent, method="lower"))
        alone_s = lone_ttft_s(scenario, tokens)
        if alone_s > limit_s:
            yield (
                f"no rate can save it: TTFT p{percent:g} is {1e3 * alone_s:,.0f} ms at any rate, "
                f"the prefill of {tokens:,}-token prompts takes it, and the limit is "
                f"{1e3 * limit_s:,.0f} ms"
            )
