"""The live page's server: on this machine alone, GET only, one page and three questions."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import field
from io import StringIO
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from experiments.exploring.guard import VIEWER, Guard
from experiments.exploring.knobs import Knob, KnobError, settings_of
from experiments.exploring.page import live_page
from experiments.exploring.points import MOST_SEEDS, Base
from experiments.exploring.question import Question, plain
from experiments.exploring.turns import Turns
from experiments.exploring.workers import Workers
from experiments.running.assemble import write_plain_yaml
from experiments.study.errors import StudyError
from model.counts import count_of
from model.dataclass import dataclass

SEEDS = "seeds"
USUAL_SEEDS = 4
BASELINE = "baseline."
"""Before the name of a knob: where the baseline has it."""
MOST_QUESTIONS = 64
"""Settings that are simulated at a time,"""
MOST_OF_A_VIEWER = 12
"""and for one viewer; a page asks for one."""


@dataclass(frozen=True, slots=True)
class Explorer:
    """What the questions are answered from."""

    base: Base
    knobs: tuple[Knob, ...]
    workers: Workers
    answered: "list[_Answer]" = field(default_factory=list)
    """What is simulated for somebody now."""
    thinking: Turns = field(default_factory=lambda: Turns(1))
    """Viewers take turns with this process, too: checks of settings, and what runs say."""

    async def page(self, _: Request) -> Response:
        """The page itself."""
        return HTMLResponse(live_page(self.base, self.knobs))

    async def run(self, request: Request) -> Response:
        """Simulate a setting: a JSON line after each seed, with all seeds until then.

        Long runs have a line before those: a first look at a shorter one, which says its
        ``requests``.
        """
        try:
            asked = _words(request)
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
        viewer = _viewer(request)
        mine = sum(each.viewer == viewer for each in self.answered)
        if len(self.answered) >= MOST_QUESTIONS or mine >= MOST_OF_A_VIEWER:
            waiting = count_of(mine, "question")
            text = f"{waiting} of yours being simulated already: ask again in a moment"
            return PlainTextResponse(text, 503)
        question = Question(self.base, self.workers, self.thinking, viewer)
        lines = _lines(request, question.answers(settings, baseline, seeds))
        return _Answer(lines, viewer, self.answered)

    async def get_ready(self) -> None:
        """Simulate the study's own point, and look at it once, before somebody asks for it."""
        await asyncio.to_thread(live_page, self.base, self.knobs)
        question = Question(self.base, self.workers, self.thinking, "")
        async with contextlib.aclosing(question.answers({}, None, USUAL_SEEDS)) as answers:
            async for _ in answers:
                pass

    async def study(self, request: Request) -> Response:
        """The setting as a study of its own."""
        try:
            settings = settings_of(self.knobs, _words(request))
            async with self.thinking.turn(_viewer(request)):
                plan = await asyncio.to_thread(self.base.plan, settings, 1)
        except KnobError as error:
            return PlainTextResponse(str(error), 422)
        except StudyError as error:
            return PlainTextResponse(plain(error), 422)
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

    def __init__(self, lines: AsyncIterator[str], viewer: str, answered: "list[_Answer]") -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self.viewer, self.answered = viewer, answered
        answered.append(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answered.remove(self)


async def _lines(
    request: Request, answers: AsyncGenerator[dict[str, Any], None]
) -> AsyncIterator[str]:
    async with contextlib.aclosing(answers) as told:
        async for each in told:
            yield json.dumps(each) + "\n"
            if await request.is_disconnected():  # no further seed for who has gone
                return


def _viewer(request: Request) -> str:
    """Who asks: see ``Guard``."""
    name: str = request.scope[VIEWER]
    return name


def _words(request: Request) -> dict[str, str]:
    """What an address asks for.

    Raises:
        KnobError: a word stands there twice.
    """
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise KnobError(f"{twice[:40]!r} is given twice, expected it once")
    return found


def _seeds(text: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
    if not 1 <= count <= MOST_SEEDS:
        raise KnobError(f"seeds = {text[:40]!r}, expected 1 to {MOST_SEEDS}")
    return count


def application(explorer: Explorer, token: str, port: int) -> Starlette:
    """Return the server; its workers end with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        """Start the workers, and end them with the server."""
        ready = asyncio.create_task(explorer.get_ready())
        try:
            yield
        finally:
            ready.cancel()
            explorer.workers.close()
            with contextlib.suppress(asyncio.CancelledError):
                await ready

    found = Starlette(
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
    found.router.redirect_slashes = False  # /run/ is no name of /run
    return found
