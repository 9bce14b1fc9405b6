"""Small random cases: a scheduler's settings, and requests that come and go at whole ticks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, Final

from model.dataclass import dataclass
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue

TICK_S: Final = 2.0**-10
"""What every step of a case takes; a power of two, so that times stay whole ticks."""


@dataclass(frozen=True, slots=True)
class Row:
    """A request of a case."""

    arrival: int
    """Tick of its arrival."""
    prompt: int
    output: int
    priority: int
    stream: int
    """Prompts of the same stream begin alike."""
    leaves: int | None = None
    """Tick at which it is given up, if it has no whole answer by then."""


@dataclass(frozen=True, slots=True)
class Case:
    """One scheduler and its requests."""

    number: int
    order: str
    num_blocks: int
    block_size: int
    settings: Settings
    caching: bool
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        told = self.settings
        extras = ["ahead"] * told.ahead + ["prefix cache"] * self.caching
        return (
            f"case {self.number}: {len(self.rows)} requests, order {self.order}, "
            f"{self.num_blocks} blocks of {self.block_size}, {told.max_num_seqs} seats, budget "
            f"{told.token_budget}{''.join(f', {each}' for each in extras)}"
        )

    def sequences(self) -> list[Sequence]:
        """Return the requests as a scheduler sees them."""
        return [
            Sequence(number, row.arrival * TICK_S, row.prompt, row.output, row.priority)
            for number, row in enumerate(self.rows)
        ]

    def scheduler(
        self,
        policy: Callable[..., Scheduler],
        queue: Callable[[], WaitingQueue],
        own: Mapping[str, Any],
    ) -> Scheduler:
        """Return a fresh one."""
        return policy(self._pool(), queue(), self.settings, **own)

    def _pool(self) -> BlockPool:
        if not self.caching:
            return BlockPool(self.num_blocks, self.block_size)
        size, ahead = self.block_size, self.settings.ahead
        return PrefixCache(self.num_blocks, size, spans_of(self, size), ahead=ahead)


def spans_of(case: Case, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request of a case its stream, and how many blocks lie wholly in that."""
    return lambda request: [(case.rows[request].stream, case.rows[request].prompt // block_size)]


def case(number: int, order: str, *, cuts_prompts: bool, aborts: bool) -> Case:
    """Return one of endless cases: the same for the same number.

    Planning ahead and prefix caching are for policies that cut prompts.
    """
    luck = Random(number)
    seats, size = luck.randint(1, 8), luck.choice((1, 4, 16))
    settings = Settings(
        max_num_seqs=seats,
        token_budget=seats + luck.randint(0, 60),
        watermark_blocks=luck.choice((0, 0, 1)),
        ahead=cuts_prompts and luck.random() < 0.3,
        long_prefill_token_threshold=luck.choice((0, 0, 7)),
        scheduler_reserve_full_isl=luck.random() < 0.3,
        serves_behind_victim=number % 2 == 1,
        batch_timeout_s=luck.choice((0, 4, 50)) * TICK_S,
    )
    tokens = luck.choice((80, 200, 1000))
    longest, gap = luck.choice((8, 40, 70)), luck.choice((0, 1, 5, 40))
    rows, at = [], 0
    for _ in range(luck.randint(1, 25)):
        at += luck.randint(0, gap)
        leaves = at + luck.randint(1, 60) if aborts and luck.random() < 0.4 else None
        prompt, output = luck.randint(1, longest), luck.randint(1, luck.choice((2, 40)))
        rows.append(Row(at, prompt, output, luck.randint(0, 2), luck.randint(0, 3), leaves))
    caching = cuts_prompts and luck.random() < 0.3
    return Case(number, order, max(4, tokens // size), size, settings, caching, tuple(rows))


def fitting(case: Case, scheduler: Scheduler) -> Case:
    """Return the case without requests that could never run."""
    rows = tuple(row for row in case.rows if scheduler.fits(row.prompt, row.output))
    return replace(case, rows=rows)


def with_longer_answers(case: Case, scheduler: Scheduler) -> tuple[Case, set[int]]:
    """Return the case with longer answers for some, as far as they fit, and who these are."""
    luck, changed = Random(case.number), set()
    rows = list(case.rows)
    for number, row in enumerate(rows):
        longer = replace(row, output=row.output + luck.randint(1, 40))
        if luck.random() < 0.7 and scheduler.fits(longer.prompt, longer.output):
            rows[number] = longer
            changed.add(number)
    return replace(case, rows=tuple(rows)), changed
