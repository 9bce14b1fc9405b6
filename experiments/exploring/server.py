"""The live page's server: on this machine alone, GET only, one page and three questions."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from experiments.exploring.guard import Guard
from experiments.exploring.knobs import Knob, KnobError, as_options, settings_of
from experiments.exploring.page import live_page
from experiments.exploring.points import MOST_SEEDS, Base, answer
from experiments.exploring.workers import Workers
from experiments.running.assemble import write_plain_yaml
from experiments.running.sweep import Run, runs_of
from experiments.study.errors import RunError, StudyError

SEEDS = "seeds"
USUAL_SEEDS = 4
BASELINE = "baseline."
"""Before the name of a knob: where the baseline has it."""
MOST_QUESTIONS = 32
"""Settings that are simulated for viewers at a time; a page asks for one."""


@dataclass(frozen=True, slots=True)
class Explorer:
    """What the questions are answered from."""

    base: Base
    knobs: tuple[Knob, ...]
    workers: Workers
    answered: "list[_Answer]" = field(default_factory=list)
    """What is simulated for somebody now."""

    async def page(self, _: Request) -> Response:
        """The page itself."""
        return HTMLResponse(live_page(self.base, self.knobs))

    async def run(self, request: Request) -> Response:
        """Simulate a setting: a JSON line after each seed, with all seeds until then.

        Long runs have a line before those: a first look at a shorter one, which says its
        ``requests``.
        """
        asked = dict(request.query_params)
        try:
            seeds = _seeds(asked.pop(SEEDS, str(USUAL_SEEDS)))
            own = {key: value for key, value in asked.items() if not key.startswith(BASELINE)}
            given = {
                key.removeprefix(BASELINE): value
                for key, value in asked.items()
                if key.startswith(BASELINE)
            }
            settings = settings_of(self.knobs, own)
            baseline = settings_of(self.knobs, given) if given else None
        except KnobError as error:
            return PlainTextResponse(str(error), 422)
        if len(self.answered) >= MOST_QUESTIONS:
            text = f"{MOST_QUESTIONS} settings are simulated already: ask again in a moment"
            return PlainTextResponse(text, 503)
        return _Answer(self._lines(request, settings, baseline, seeds), self.answered)

    async def _lines(
        self, request: Request, settings: Mapping[str, Any], baseline: Any, seeds: int
    ) -> AsyncIterator[str]:
        async with contextlib.aclosing(self._answers(settings, baseline, seeds)) as answers:
            async for told in answers:
                yield json.dumps(told) + "\n"
                if await request.is_disconnected():  # no further seed for who has gone
                    return

    async def _answers(
        self, settings: Mapping[str, Any], baseline: Mapping[str, Any] | None, seeds: int
    ) -> AsyncGenerator[dict[str, Any], None]:
        folder = self.workers.folder
        begun: list[asyncio.Task[bool]] = []
        again = False
        try:
            plan = self.base.plan(settings, seeds)
            runs = runs_of(plan, folder)
            other = None if baseline is None else self.base.plan(baseline, seeds)
            others = [] if other is None else runs_of(other, folder)
            first = self.base.first_requests
            if first is not None and not self.workers.has(runs[0]):
                yield await self._first(settings, first) | {"of": seeds}
            for count in range(1, len(runs) + 1):
                while len(begun) <= min(count, len(runs) - 1):  # one ahead, and no more
                    begun.append(self._seed(runs, others, len(begun)))
                again = await begun[count - 1] or again
                told = await asyncio.to_thread(answer, plan, runs[:count], other, others[:count])
                told |= {"of": seeds, "options": as_options(settings), "again": again}
                yield told
        except (StudyError, RunError) as error:
            yield {"error": _plain(error)}
        finally:
            for each in begun:
                each.cancel()

    def _seed(self, runs: Sequence[Run], others: Sequence[Run], place: int) -> "asyncio.Task[bool]":
        """Begin one seed of a setting and of its baseline; tell whether one was begun again."""

        async def simulated() -> bool:
            pair = (*runs[place : place + 1], *others[place : place + 1])
            return any([await self.workers.run(each) for each in pair])

        begun = asyncio.create_task(simulated())
        begun.add_done_callback(lambda done: done.cancelled() or done.exception())
        return begun

    async def _first(self, settings: Mapping[str, Any], requests: int) -> dict[str, Any]:
        """What a shorter run of one seed says: the figures of a study of so many requests."""
        plan = self.base.plan(settings, 1, requests)
        (run,) = runs_of(plan, self.workers.folder)
        again = await self.workers.run(run)
        told = await asyncio.to_thread(answer, plan, [run], None, [])
        return told | {"options": as_options(settings), "requests": requests, "again": again}

    async def get_ready(self) -> None:
        """Simulate the study's own point, and look at it once, before somebody asks for it."""
        await asyncio.to_thread(live_page, self.base, self.knobs)
        with contextlib.suppress(StudyError, RunError):  # told to whoever asks
            plan = self.base.plan({}, USUAL_SEEDS)
            first, *others = runs_of(plan, self.workers.folder)
            if self.base.first_requests is not None:
                await self._first({}, self.base.first_requests)
            await self.workers.run(first)
            await asyncio.to_thread(answer, plan, [first], None, [])
            await asyncio.gather(*map(self.workers.run, others))

    async def study(self, request: Request) -> Response:
        """The setting as a study of its own."""
        try:
            settings = settings_of(self.knobs, dict(request.query_params))
            plan = self.base.plan(settings, 1)
        except KnobError as error:
            return PlainTextResponse(str(error), 422)
        except StudyError as error:
            return PlainTextResponse(_plain(error), 422)
        text = StringIO()
        write_plain_yaml(plan.study.resolved() | {"seeds": 10}, text)
        name = f"{self.base.name}.yaml"
        return PlainTextResponse(
            text.getvalue(), headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )

    async def state(self, _: Request) -> Response:
        """How many runs are under way."""
        return PlainTextResponse(json.dumps({"busy": self.workers.busy}))


class _Answer(StreamingResponse):
    """Lines of JSON; among those that are ``answered`` from when it is there until it ends."""

    def __init__(self, lines: AsyncIterator[str], answered: "list[_Answer]") -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self.answered = answered
        answered.append(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answered.remove(self)


def _seeds(text: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
    if not 1 <= count <= MOST_SEEDS:
        raise KnobError(f"seeds = {text[:40]!r}, expected 1 to {MOST_SEEDS}")
    return count


def _plain(error: StudyError | RunError) -> str:
    """What the simulator says, without the place in a file that there is none of."""
    problems = getattr(error, "problems", None)
    return "; ".join(problem.text for problem in problems) if problems else str(error)


def application(explorer: Explorer, token: str, port: int) -> Starlette:
    """Return the server; its workers end with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ready = asyncio.create_task(explorer.get_ready())
        try:
            yield
        finally:
            ready.cancel()
            explorer.workers.close()
            with contextlib.suppress(asyncio.CancelledError):
                await ready

    return Starlette(
        routes=[
            Route("/", explorer.page),
            Route("/run", explorer.run),
            Route("/study", explorer.study),
            Route("/state", explorer.state),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(Guard, token=token, port=port),
        ],
        lifespan=lifespan,
    )
