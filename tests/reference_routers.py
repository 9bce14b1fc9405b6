"""Routers as naively as can be: everything is counted anew at every choice, from written-out texts.

A prompt is a list of tokens (``tests.reference_world.text_of``); a block is the tuple of all
tokens up to its end. What a router believes is a list of such tuples, and nothing is an interval.
"""

from collections.abc import Callable
from functools import cache

from sim.routers.hashing import VIRTUAL_NODES, place_of
from tests.reference_cache_routers import cache_aware, dynamo
from tests.reference_llm_d import llm_d
from tests.reference_routing import Choose, Seq, World, fewest, integers


def reference_router(world: World) -> tuple[Choose, Callable[[Seq, int, float], None]]:
    """Return what chooses, and what is told of everyone who is sent."""
    if len(world.numbers) == 1:
        return (lambda seq, now_s: 0), _nothing
    if world.name in ALONE:
        return ALONE[world.name](world), _nothing
    return BELIEVING[world.name](world)


def _nothing(seq: Seq, number: int, now_s: float) -> None:
    pass


def round_robin(world: World) -> Choose:
    turn = iter(range(10**9))
    return lambda seq, now_s: next(turn) % len(world.numbers)


def random(world: World) -> Choose:
    luck = integers(world.rng, len(world.numbers))
    return lambda seq, now_s: next(luck)


def least_requests(world: World) -> Choose:
    return lambda seq, now_s: fewest(world)


def least_tokens(world: World) -> Choose:
    def tokens(number: int) -> int:
        engine = world.engines[number]
        return sum(
            seq.prompt + len(seq.token_s)
            for seq in engine.waiting
            + engine.arrived
            + engine.running
            + [seq for seq in engine.parked if seq.loads != "cancelled"]
            if not seq.done and not seq.over and seq not in engine.dropping
        ) + sum(seq.prompt + seq.output for seq in world.outstanding[number] if seq.through)

    return lambda seq, now_s: min(world.numbers, key=lambda n: (tokens(n), n))


def power_of_two_choices(world: World) -> Choose:
    count = len(world.numbers)
    first, second = integers(world.rng, count), integers(world.rng, count - 1)

    def choose(seq: Seq, now_s: float) -> int:
        one, other = next(first), next(second)
        other += other >= one
        return min((one, other), key=lambda n: (world.loads()[n], n))

    return choose


@cache
def place_of_node(number: int, node: int) -> int:
    return place_of(f"replica {number} node {node}")


def ring(world: World, key: str) -> list[int]:
    """Replicas from the place of a key on, clockwise."""
    at = place_of(key)
    nodes = [
        ((place_of_node(number, node) - at) % 2**64, number)
        for number in world.numbers
        for node in range(VIRTUAL_NODES)
    ]
    return [number for _, number in sorted(nodes)]


def of_session(world: World, seq: Seq) -> str:
    session = world.session(seq)
    return f"request {seq.row}" if session < 0 else f"session {session}"


def consistent_hashing(world: World) -> Choose:
    return lambda seq, now_s: ring(world, of_session(world, seq))[0]


def bounded_consistent_hashing(world: World) -> Choose:
    def choose(seq: Seq, now_s: float) -> int:
        loads, order = world.loads(), ring(world, of_session(world, seq))
        most = sum(loads) / len(loads) * world.given["max_load_skew"]
        return next((number for number in order if loads[number] <= most), order[0])

    return choose


def prefix_hash(world: World) -> Choose:
    def choose(seq: Seq, now_s: float) -> int:
        tokens = min(seq.prompt, world.given["prefix_token_count"])
        last = seq.text[tokens - 1]
        own = last[0] == "own"
        key = f"request {seq.row}" if own else f"stream {last[0]} to {tokens}"
        loads, first = world.loads(), ring(world, key)[0]
        most = (sum(loads) + 1) / len(loads) * world.given["load_factor"]
        if loads[first] <= most:
            return first
        within = [number for number in world.numbers if loads[number] <= most]
        return min(within, key=lambda n: (loads[n], n), default=first)

    return choose


def session_affinity(world: World) -> tuple[Choose, Callable[[Seq, int, float], None]]:
    homes: dict[int, int] = {}

    def choose(seq: Seq, now_s: float) -> int:
        return homes.get(world.session(seq), fewest(world))

    def sent(seq: Seq, number: int, now_s: float) -> None:
        if world.session(seq) >= 0:
            homes[world.session(seq)] = number

    return choose, sent


ALONE: dict[str, Callable[[World], Choose]] = {
    "round_robin": round_robin,
    "random": random,
    "least_requests": least_requests,
    "least_tokens": least_tokens,
    "power_of_two_choices": power_of_two_choices,
    "consistent_hashing": consistent_hashing,
    "bounded_consistent_hashing": bounded_consistent_hashing,
    "prefix_hash": prefix_hash,
}
BELIEVING: dict[str, Callable[[World], tuple[Choose, Callable[[Seq, int, float], None]]]] = {
    "session_affinity": session_affinity,
    "cache_aware": cache_aware,
    "llm_d": llm_d,
    "dynamo": dynamo,
}
