"""A slow, obvious simulator: every sequence is touched in every step, every token has its time.

It shares with ``sim`` only the prices (``StepCost.step_s``) and the words. Whatever the fast path
computes with counters, heaps and histograms must equal this to the bit. An engine is in
``reference_engine``, with its blocks and plans; other kinds of it, routers and ranks lie beside it.
"""

from math import inf

from sim.settings.scenario import Scenario
from tests.reference_world import World
from workloads.requests import Requests


def reference(
    scenario: Scenario, requests: Requests, stop_s: float = inf, world: type[World] = World
) -> dict:
    """Simulate step by step; return request columns, steps per replica and every token's time."""
    world = world(scenario, requests)
    world.run(stop_s)
    engines = world.engines
    return {
        "seqs": world.seqs,
        "steps": [engine.steps for engine in engines],
        "held": sum(engine.total - engine.free for engine in engines),
        "work": [engine.work for engine in engines],
        "world": world,
    }
