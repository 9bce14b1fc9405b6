"""The prices of a pipeline: of every stage, and of a step that goes through all of them."""

from dataclasses import replace

import numpy as np

from hardware.engines.pipelining import Pipelining
from hardware.steps.cost import StepCost
from hardware.steps.prices import StepPrices
from hardware.steps.setup import StepSetup, step_cost
from model.dataclass import dataclass
from model.stages import stages_of


@dataclass(frozen=True, slots=True)
class PipelineCost:
    """What steps of a pipeline cost."""

    rules: Pipelining
    """How its steps are planned."""
    stages: tuple[StepCost, ...]
    """What each stage takes, handing over included."""
    places: tuple[tuple[int, ...], ...]
    """Of each stage, which of the whole model's classes of cache its own ones are."""

    @property
    def prices(self) -> list[StepPrices]:
        """Of each stage."""
        return [stage.prices for stage in self.stages]

    def ceilings(self, whole: StepCost) -> dict[str, float]:
        """Return what a replica cannot exceed: see ``StepCost.ceilings``.

        Its throughput is that of the slowest stage, its fastest token goes through all of them.
        """
        each = [stage.ceilings() for stage in self.stages]
        least = {name: min(one[name] for one in each) for name in each[0]}
        return least | {"fastest_token_s": whole.ceilings()["fastest_token_s"]}


def staged(setup: StepSetup, rules: Pipelining) -> tuple[StepCost, PipelineCost | None]:
    """Return the price of a step that is alone in its engine, and those of its stages if several.

    Args:
        setup: of the whole model.
        rules: how steps are planned.
    """
    whole = step_cost(setup)
    if rules.stages == 1:
        return whole, None
    spec = setup.spec
    stages = stages_of(spec, rules.stages)
    costs = tuple(
        step_cost(replace(setup, stage=stage, number=place)) for place, stage in enumerate(stages)
    )
    reaches = list(spec.reaches)
    places = tuple(
        tuple(reaches.index(reach) if reach in reaches else 0 for reach in stage.spec.reaches)
        for stage in stages
    )
    token_s = np.sum([np.array(cost.token_s) for cost in costs], axis=0)
    alone = replace(whole, token_s=token_s.tolist())
    return alone, PipelineCost(rules, costs, places)
