"""``check_scheduler``: whether a scheduling policy keeps the rules."""

from collections.abc import Callable, Mapping
from typing import Any

from sim.conformance.cases import Case, case, fitting, with_longer_answers
from sim.conformance.drive import ABORTS, STUCK, Step, drive, first_difference
from sim.conformance.error import ConformanceError, in_case
from sim.conformance.reference import KNOWN, Reference
from sim.conformance.watch import BLOCKS, LIMITS, PREEMPTION, Rules
from sim.engine.scheduler import Scheduler
from sim.engine.waiting import WaitingQueue
from sim.settings.registry import ORDERS, POLICIES

ALIKE = "the same twice"
AT_ONCE = "many steps equal single steps"
BLIND = "never reads the true output length"

CLAIM = "equals the policy that it claims to be"
CASES = 60
"""Of each order."""

Make = Callable[[Case], Scheduler]


def check_scheduler(
    policy: type[Scheduler], settings: Mapping[str, Any] | None = None, cases: int = CASES
) -> tuple[str, ...]:
    """Check a policy in random cases: with every order, tight blocks, a prefix cache, planning
    ahead (the last two if it ``cuts_prompts``), and requests that are given up.

    Args:
        policy: a subclass of ``Scheduler``.
        settings: of its own, as in ``engine.scheduler_settings``.
        cases: how many of each order.

    Returns:
        The rules that were checked.

    Raises:
        ConformanceError: it breaks one.
    """
    claim = next((name for name in KNOWN if POLICIES[name] is policy), policy.claims)
    if claim not in ("", *KNOWN):
        raise ConformanceError(CLAIM, f"claims = {claim!r}, expected one of {', '.join(KNOWN)}")
    for order, queue in ORDERS.items():
        check_cases(policy, queue, order, settings or {}, cases, claim)
    rules = (BLOCKS, LIMITS, PREEMPTION, STUCK, ALIKE, AT_ONCE, BLIND, ABORTS)
    return (*rules, CLAIM) if claim else rules


def check_cases(
    policy: type[Scheduler], queue: Callable[[], WaitingQueue], order: str,
    own: Mapping[str, Any], cases: int, claim: str = "",
) -> None:  # fmt: skip
    """Check a policy with one queue. Raises ConformanceError."""
    for number in range(cases):
        told = case(number, order, cuts_prompts=policy.cuts_prompts, aborts=number % 3 == 2)

        def make(of: Case) -> Scheduler:
            return of.scheduler(policy, queue, own)

        with in_case(told):
            told = fitting(told, make(told))
            check_one(told, make)
            if claim:
                _equals(told, make, claim)


def check_one(told: Case, make: Make) -> None:
    """Check what is made in one case. Raises ConformanceError."""
    scheduler = make(told)
    log = drive(told, scheduler, many=False, watch=Rules(told, scheduler))
    _all_free(told, scheduler)
    _same(ALIKE, log, drive(told, make(told), many=False), "another time")
    scheduler = make(told)
    _same(
        AT_ONCE,
        log,
        drive(told, scheduler, many=True, watch=Rules(told, scheduler)),
        "many at once",
    )
    _all_free(told, scheduler)
    _is_blind(told, make, log)


def _all_free(told: Case, scheduler: Scheduler) -> None:
    held, left = scheduler.pool.held, [*scheduler.running, *scheduler.waiting.members()]
    if held or left:
        rule = ABORTS if any(row.leaves is not None for row in told.rows) else BLOCKS
        who = ", ".join(str(each.request) for each in left) or "nobody"
        raise ConformanceError(rule, f"{held} blocks are held at the end, by requests {who}")


def _is_blind(told: Case, make: Make, log: list[Step]) -> None:
    """Until the first of those ends whose answers are longer, nothing may be different."""
    longer, changed = with_longer_answers(told, make(told))
    until = next(
        (number for number, step in enumerate(log) if changed & {*step.finished}), len(log)
    )
    other = drive(longer, make(longer), many=False)
    at = first_difference([_forget_ends(step) for step in log[:until]],
                          [_forget_ends(step) for step in other[:until]])  # fmt: skip
    if at is not None:
        raise ConformanceError(
            BLIND, f"with longer answers, which nobody knows yet, step {at} is another one: "
            f"{other[at] if at < len(other) else 'none'}, not {log[at]}",
        )  # fmt: skip


def _forget_ends(step: Step) -> Step:
    return step._replace(finished=())


def _equals(told: Case, make: Make, claim: str) -> None:
    log = drive(told, make(told), many=False)
    if told.caching or told.settings.ahead:  # as the built-in one does it
        queue = ORDERS[told.order]
        theirs = drive(told, told.scheduler(POLICIES[claim], queue, {}), many=False)
    else:
        theirs = Reference(claim, told).log()
    _same(CLAIM, log, theirs, f"of {claim}")


def _same(rule: str, log: list[Step], other: list[Step], which: str) -> None:
    at = first_difference(log, other)
    if at is not None:
        mine, theirs = (each[at] if at < len(each) else "none" for each in (log, other))
        raise ConformanceError(rule, f"step {at} is {mine}, {which} it is {theirs}")
