"""Runs whose prompts one engine computes and another answers, and those that only say so.

A row says ``disagg 2P1D``: so many replicas prefill, so many decode, all of its ``tp``. An engine
that only decodes never makes a token wait for a whole prompt. Where one token in a hundred waited
at least half as long as a prompt takes, nothing was handed over: the engines served whole requests,
each its share, and that is what is simulated. It is told.
"""

import re
from dataclasses import replace

from experiments.validation.rows import RunRow
from experiments.validation.traffic import CannotPredictError
from sim.settings.pools import DECODE, PREFILL
from sim.settings.scenario import Scenario, scenario_of_pools

Sizes = tuple[int, int]
"""Replicas that prefill, and that decode."""

_TOGETHER = ("agg", "aggregated", "monolithic")
_SIZES = re.compile(r"\b(\d+)\s*p[\s,+/-]*(\d+)\s*d\b", re.IGNORECASE)
_SEEN = 0.5
"""Share of a prompt's time: a token that waited so long waited for a prompt."""


def sizes_of(row: RunRow) -> Sizes | None:
    """Return how many engines prefill and decode; None: they do both.

    Raises:
        CannotPredictError: another mode, or one without sizes, or other GPUs than these.
    """
    if row.mode is None or row.mode.lower() in _TOGETHER:
        return None
    found = _SIZES.search(row.mode)
    if "disagg" not in row.mode.lower() or found is None:
        raise CannotPredictError(
            f"mode = {row.mode!r} is not modelled, expected agg, or disagg with sizes, such as "
            "disagg 2P1D"
        )
    sizes = int(found[1]), int(found[2])
    if not all(sizes):
        raise CannotPredictError(f"mode = {row.mode!r}, expected at least 1P1D")
    gpus = sum(sizes) * (row.tp or 1)
    if row.n_gpus is not None and row.tp is not None and row.n_gpus != gpus:
        raise CannotPredictError(
            f"mode = {row.mode!r} with tp = {row.tp} is {gpus} GPUs, but n_gpus = {row.n_gpus}"
        )
    return sizes


def with_roles(scenario: Scenario, sizes: Sizes) -> Scenario:
    """Return a scenario of plain replicas as one of some that prefill, and some that decode.

    Raises:
        ValueError: caches cannot go from one to another.
    """
    pools = tuple(
        replace(scenario.pool, name=role, role=role, replicas=replicas)
        for role, replicas in zip((PREFILL, DECODE), sizes, strict=True)
    )
    return scenario_of_pools(pools, scenario.router, client=scenario.client)


def serves_whole_requests(row: RunRow, scenario: Scenario, prompt_tokens: int) -> str:
    """Say why nothing was handed over in a run that says so; empty if nothing speaks against it.

    Args:
        row: with the gaps between tokens as they were measured.
        scenario: of one of its engines.
        prompt_tokens: of a prompt, in the middle.
    """
    waited_ms = row.measured.get("itl_p99_ms")
    if waited_ms is None:
        return ""
    pool = scenario.pools[0]
    chunk = min(prompt_tokens, pool.token_budget)
    nothing = [0] * len(pool.spec.windows)
    alone_ms = 1e3 * pool.price.step_s(0, nothing, [(chunk, 0)])
    if waited_ms < _SEEN * alone_ms:
        return ""
    return (
        f"mode = {row.mode}: simulated as engines that serve whole requests, since one token in a "
        f"hundred waited {waited_ms:.0f} ms, and a step with a prompt takes {alone_ms:.0f} ms: an "
        "engine that only decodes has none"
    )
