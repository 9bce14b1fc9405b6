"""Routers that look at caches, as plainly as can be."""

from collections.abc import Callable
from math import exp

from tests.reference_routing import Choose, Seq, World, fewest, floats, one_of


def cache_aware(world: World) -> tuple[Choose, Callable[[Seq, int, float], None]]:
    given = world.given
    texts: list[list[tuple]] = [[] for _ in world.numbers]  # of each replica: (when, text)
    count = iter(range(10**9))

    def common(seq: Seq, text: list) -> int:
        alike = 0
        while alike < min(seq.prompt, len(text)) and seq.text[alike] == text[alike]:
            alike += 1
        return alike

    def choose(seq: Seq, now_s: float) -> int:
        loads = world.loads()
        high, low = max(loads), min(loads)
        found = [
            max(((common(seq, text), when) for when, text in texts[n]), default=(0, 0))
            for n in world.numbers
        ]
        best = max(found, key=lambda each: each[0])[0]
        rel = given["balance_rel_threshold"]
        if high - low > given["balance_abs_threshold"] and high > low * rel:
            number = fewest(world)
        elif best / seq.prompt > given["cache_threshold"]:
            number = max(
                (n for n in world.numbers if found[n][0] == best), key=lambda n: found[n][1]
            )
        elif given["without_match"] == "smallest_tree":
            sizes = [
                len({tuple(text[:end]) for _, text in texts[n] for end in range(1, len(text) + 1)})
                for n in world.numbers
            ]
            number = sizes.index(min(sizes))
        else:
            number = fewest(world)
        world.claimed = found[number][0]
        return number

    def sent(seq: Seq, number: int, now_s: float) -> None:
        texts[number].append((next(count), seq.text[: seq.prompt]))

    return choose, sent


def dynamo(world: World) -> tuple[Choose, Callable[[Seq, int, float], None]]:
    given, luck, size = world.given, floats(world.rng), world.size
    to_prefill: dict[int, int] = {}  # by row: tokens that were not thought to be cached
    believed: list[tuple] = []  # (when, replica, blocks)

    def cached(number: int, seq: Seq, now_s: float) -> int:
        if given["use_kv_events"]:
            return world.cached(number, seq) // size
        known = {
            key
            for when, home, keys in believed
            if home == number and when >= now_s - given["router_ttl_secs"]
            for key in keys
        }
        return first_of(world.full_blocks(seq, size), known)

    def first_of(keys: list[tuple], known: set[tuple]) -> int:
        return next((place for place, key in enumerate(keys) if key not in known), len(keys))

    def choose(seq: Seq, now_s: float) -> int:
        keys, costs, overlap = world.full_blocks(seq, size), [], []
        for number in world.numbers:
            here = world.outstanding[number]
            waiting = sum(to_prefill[each.row] for each in here if not each.token_s)
            in_use = {key for each in here for key in world.full_blocks(each, size)}
            blocks = len(in_use) + len(keys) - first_of(keys, in_use)
            overlap.append(cached(number, seq, now_s))
            prefill = (waiting + seq.prompt) / size
            prefill = max(prefill - given["overlap_score_credit"] * overlap[-1], 0.0)
            cost = given["prefill_load_scale"] * prefill + float(blocks)
            costs.append(cost + given["decode_active_request_weight"] * len(here))
        number = picked(costs)
        world.claimed = overlap[number] * size
        to_prefill[seq.row] = seq.prompt - world.claimed
        return number

    def picked(costs: list[float]) -> int:
        low, high = min(costs), max(costs)
        if not given["router_temperature"] or low == high:
            return one_of([n for n in world.numbers if costs[n] == low], luck)
        scale = -1.0 / ((high - low) * given["router_temperature"])
        odds = [exp((cost - low) * scale) for cost in costs]
        left = next(luck) * sum(odds)
        for number, each in enumerate(odds):
            left -= each
            if left <= 0.0:
                return number
        raise AssertionError

    def sent(seq: Seq, number: int, now_s: float) -> None:
        believed.append((now_s, number, world.full_blocks(seq, size)))

    return choose, sent
