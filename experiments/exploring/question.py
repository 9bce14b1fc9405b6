"""One question of a viewer: a setting, answered seed by seed, each as soon as it has run."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from experiments.exploring.knobs import as_options
from experiments.exploring.points import Base, answer
from experiments.exploring.turns import Turns
from experiments.exploring.workers import Workers
from experiments.running.sweep import Run, runs_of
from experiments.study.errors import RunError, StudyError
from experiments.study.points import Plan
from model.dataclass import dataclass

Given = ParamSpec("Given")
Found = TypeVar("Found")
UNFORESEEN = "something is wrong in headroom itself, its terminal has more"


@dataclass(frozen=True, slots=True)
class Question:
    """What a viewer asks of a study's point."""

    base: Base
    workers: Workers
    thinking: Turns
    """Of this process."""
    viewer: str

    async def answers(
        self, settings: Mapping[str, Any], baseline: Mapping[str, Any] | None, seeds: int
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is known of a setting after each seed; or, once, the error that ends it."""
        begun: list[asyncio.Task[bool]] = []
        again = False
        try:
            plan, runs = await self._thought(self._runs, settings, seeds)
            other: Plan | None = None
            others: list[Run] = []
            if baseline is not None:
                other, others = await self._thought(self._runs, baseline, seeds)
            first = self.base.first_requests
            if first is not None and not self.workers.has(runs[0]):
                yield await self._first(settings, first) | {"of": seeds}
            for count in range(1, len(runs) + 1):
                while len(begun) <= min(count, len(runs) - 1):  # one ahead, and no more
                    begun.append(self._seed(runs, others, len(begun)))
                again = await begun[count - 1] or again
                told = await self._thought(answer, plan, runs[:count], other, others[:count])
                told |= {"of": seeds, "options": as_options(settings), "again": again}
                yield told
        except (StudyError, RunError) as error:
            yield {"error": plain(error)}
        except Exception as error:  # a viewer learns of it, and whoever runs the server sees where
            traceback.print_exception(error)
            yield {"error": f"{UNFORESEEN}: {type(error).__name__}: {error}"}
        finally:
            for each in begun:
                each.cancel()

    def _runs(
        self, settings: Mapping[str, Any], seeds: int, requests: int | None = None
    ) -> tuple[Plan, list[Run]]:
        plan = self.base.plan(settings, seeds, requests)
        return plan, runs_of(plan, self.workers.folder)

    def _seed(self, runs: Sequence[Run], others: Sequence[Run], place: int) -> "asyncio.Task[bool]":
        """Begin one seed of a setting and of its baseline; tell whether one was begun again."""

        async def simulated() -> bool:
            """Run the seed of both; tell whether one of them had to be begun again."""
            pair = (*runs[place : place + 1], *others[place : place + 1])
            return any([await self.workers.run(each, self.viewer) for each in pair])

        begun = asyncio.create_task(simulated())
        begun.add_done_callback(lambda done: done.cancelled() or done.exception())
        return begun

    async def _first(self, settings: Mapping[str, Any], requests: int) -> dict[str, Any]:
        """What a shorter run of one seed says: the figures of a study of so many requests."""
        plan, runs = await self._thought(self._runs, settings, 1, requests)
        again = await self.workers.run(runs[0], self.viewer)
        told = await self._thought(answer, plan, runs, None, [])
        return told | {"options": as_options(settings), "requests": requests, "again": again}

    async def _thought(
        self, work: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
    ) -> Found:
        """What some work of this process comes to, in a turn of the viewer."""
        async with self.thinking.turn(self.viewer):
            return await asyncio.to_thread(work, *given, **named)


def plain(error: StudyError | RunError) -> str:
    """What the simulator says, without the place in a file that there is none of."""
    problems = getattr(error, "problems", None)
    return "; ".join(problem.text for problem in problems) if problems else str(error)
