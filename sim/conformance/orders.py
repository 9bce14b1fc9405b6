"""``check_order``: whether a queue keeps what schedulers rely on."""

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from sim.conformance.error import ConformanceError, in_case
from sim.conformance.schedulers import ALIKE, BLIND, CASES, check_cases
from sim.engine.sequence import Sequence
from sim.engine.waiting import WaitingQueue
from sim.settings.registry import POLICIES

ONCE = "everybody comes out once"
COUNTS = "count, waits and members"

Make = Callable[[], WaitingQueue]


def check_order(
    order: type[WaitingQueue], settings: Mapping[str, Any] | None = None, cases: int = CASES
) -> tuple[str, ...]:
    """Check a queue order: by itself, and in front of every built-in policy.

    Args:
        order: a subclass of ``WaitingQueue``, as a rule of ``Ranked``.
        settings: of its own, as in ``engine.order_settings``.
        cases: how many, by itself and with each policy.

    Returns:
        The rules that were checked, those of schedulers apart.

    Raises:
        ConformanceError: it breaks one, or lets a scheduler break one.
    """
    make: Make = partial(order, **(settings or {}))
    for number in range(cases):
        with in_case(f"queue case {number}"):
            served, again = _serve(make(), number), _serve(make(), number)
            if served != again:
                raise ConformanceError(
                    ALIKE, f"requests leave in the order {served}, another time in {again}"
                )
            other = _serve(make(), number, other=True)
            if served != other:
                raise ConformanceError(
                    BLIND, f"requests leave in the order {served}, with other answers, "
                    f"which nobody knows yet, in the order {other}",
                )  # fmt: skip
    for policy in POLICIES.values():
        check_cases(policy, make, order.__name__, {}, cases)
    return ONCE, COUNTS, ALIKE, BLIND


def _serve(queue: WaitingQueue, number: int, other: bool = False) -> list[int]:
    """Let requests come, leave, return and give up at random; return who left, in order.

    ``other``: with answers of other lengths.
    """
    luck, answers = Random(number), Random(f"{number} {other}")
    waiting: dict[Sequence, None] = {}
    popped: list[Sequence] = []
    served: list[int] = []
    for row in range(luck.randint(1, 40)):
        prompt, priority = luck.randint(1, 50), luck.randint(0, 2)
        coming = Sequence(row, row / 8, prompt, answers.randint(1, 50), priority)
        queue.push(coming)
        waiting[coming] = None
        if luck.random() < 0.5:
            popped.append(_pop(queue, waiting))
            served.append(popped[-1].request)
        if popped and luck.random() < 0.2:  # thrown out again
            back = popped.pop()
            back.preemptions += 1
            queue.push_back(back)
            waiting[back] = None
        if waiting and luck.random() < 0.2:
            _give_up(queue, waiting, luck.choice(sorted(waiting, key=lambda each: each.request)))
        _check_counts(queue, waiting, popped)
    while waiting:
        served.append(_pop(queue, waiting).request)
        _check_counts(queue, waiting, popped)
    return served


def _pop(queue: WaitingQueue, waiting: dict[Sequence, None]) -> Sequence:
    first, popped = queue.head(), queue.pop()
    if popped is not first:
        raise ConformanceError(
            ONCE, f"head() is request {first.request}, pop() gives request {popped.request}"
        )
    if popped not in waiting:
        raise ConformanceError(ONCE, f"request {popped.request} comes out, and does not wait")
    del waiting[popped]
    return popped


def _give_up(queue: WaitingQueue, waiting: dict[Sequence, None], gone: Sequence) -> None:
    told = queue.discard(gone), queue.discard(gone)
    if told != (True, False):
        raise ConformanceError(
            COUNTS, f"discard() of one that waits, twice, says {told}, expected True, then False"
        )
    del waiting[gone]


def _check_counts(
    queue: WaitingQueue, waiting: dict[Sequence, None], popped: list[Sequence]
) -> None:
    if not queue.count == len(queue) == len(waiting):
        raise ConformanceError(COUNTS, f"count is {queue.count}, {len(waiting)} wait")
    if set(queue.members()) != set(waiting) or len(queue.members()) != len(waiting):
        raise ConformanceError(COUNTS, "members() are not those who wait")
    wrong = [each for each in waiting if not each.waits] + [each for each in popped if each.waits]
    if wrong:
        raise ConformanceError(
            COUNTS,
            f"request {wrong[0].request} has waits = {wrong[0].waits}, expected the other",
        )
