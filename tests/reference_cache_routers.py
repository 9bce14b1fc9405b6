"""Routers that look at caches, as plainly as can be."""

from collections import OrderedDict
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


def llm_d(world: World) -> tuple[Choose, Callable[[Seq, int, float], None]]:
    given, luck = world.given, floats(world.rng)
    index: list[OrderedDict] = [OrderedDict() for _ in world.numbers]
    homes: dict[int, int] = {}
    speculative: list[tuple] = []  # (when, replica, blocks)
    own = given["prefix_cache"]
    size = world.size if own["auto_tune"] else own["block_size_tokens"]
    most = own["max_prefix_blocks_to_match"]
    if own["max_prefix_tokens_to_match"]:
        most = own["max_prefix_tokens_to_match"] // size
    size = max(1, round(size * 4 / own["characters_per_token"]))
    found: dict[str, list[int]] = {}

    def hashed(seq: Seq) -> list[tuple]:
        """Full blocks, and the rest as one of its own; nothing of a prompt shorter than a block."""
        tokens = min(seq.prompt, size * most)
        ends = range(size, tokens + 1, size)
        rest = [tokens] if tokens % size and len(ends) < most else []
        return [tuple(seq.text[:end]) for end in [*ends, *rest]] if ends else []

    def approximate(seq: Seq) -> list[float]:
        keys, counts = hashed(seq), [0 for _ in world.numbers]
        for key in keys:
            having = [number for number in world.numbers if key in index[number]]
            if not having:
                break
            for number in having:
                counts[number] += 1
        found["prefix_cache"] = [min(count * size, seq.prompt) for count in counts]
        return [min(count / len(keys), 1.0) if keys else 0.0 for count in counts]

    def precise(seq: Seq, now_s: float) -> list[float]:
        tokens, whole = [world.cached(n, seq) for n in world.numbers], seq.prompt // world.size
        ttl_s = given["precise_prefix_cache"]["speculative_ttl_s"]
        for n in world.numbers:
            sent = {
                key
                for when, number, keys in speculative
                if number == n and when >= now_s - ttl_s
                for key in keys
            }
            while tuple(seq.text[: tokens[n] + world.size]) in sent:
                if tokens[n] + world.size > seq.prompt:
                    break
                tokens[n] += world.size
        found["precise_prefix_cache"] = tokens
        of = whole * world.size
        return [min(each / of, 1.0) if whole else 0.0 for each in tokens]

    def in_flight(number: int) -> int:
        return sum(seq.prompt + round(seq.prompt * 1.5) for seq in world.outstanding[number])

    def spread(counts: list[int]) -> list[float]:
        low, high = min(counts), max(counts)
        return [1.0 if low == high else (high - count) / (high - low) for count in counts]

    def scores_of(name: str, seq: Seq, now_s: float) -> list[float]:
        if name == "prefix_cache":
            return approximate(seq)
        if name == "precise_prefix_cache":
            return precise(seq, now_s)
        if name == "session_affinity":
            home = homes.get(world.session(seq))
            return [1.0 if number == home else 0.0 for number in world.numbers]
        if name == "active_request":
            idle, busy = (given[name][key] for key in ("idle_threshold", "max_busy_score"))
            loads = world.loads()
            return [
                1.0 if each <= idle else (max(loads) - each) / max(loads) * busy for each in loads
            ]
        if name == "token_load":
            limit = given["queue_threshold_tokens"]
            return [1.0 - min(in_flight(n), limit) / limit for n in world.numbers]
        running, waiting, use = zip(*(world.metrics(n, now_s) for n in world.numbers), strict=True)
        if name == "queue":
            return spread(list(waiting))
        if name == "running_requests_size":
            return spread(list(running))
        if name == "kv_cache_utilization":
            return [1.0 - each for each in use]
        limit = given["load_aware_threshold"]
        return [0.5 * (1.0 - min(each, limit) / limit) for each in waiting]

    def choose(seq: Seq, now_s: float) -> int:
        sums = [0.0 for _ in world.numbers]
        for name, weight in given["scorers"].items():
            for number, score in enumerate(scores_of(name, seq, now_s)):
                sums[number] += score * weight
        number = picked(sums)
        world.claimed = max((each[number] for each in found.values()), default=0)
        return number

    def picked(sums: list[float]) -> int:
        total = sum(sums)
        if given["picker"] == "max_score":
            return one_of([n for n in world.numbers if sums[n] == max(sums)], luck)
        if given["picker"] == "random" or not total:
            return int(next(luck) * len(sums))
        left = next(luck) * total
        for number in world.numbers:
            left -= sums[number]
            if left < 0.0:
                return number
        raise AssertionError

    def sent(seq: Seq, number: int, now_s: float) -> None:
        for key in hashed(seq):
            index[number].pop(key, None)
            index[number][key] = None
        engine = world.engines[number]
        room = own["lru_capacity_per_server"]
        if own["auto_tune"]:
            room = engine.kv_blocks
        while len(index[number]) > room:
            index[number].popitem(last=False)
        if world.session(seq) >= 0:
            homes[world.session(seq)] = number
        if given["precise_prefix_cache"]["speculative_indexing"]:
            speculative.append((now_s, number, world.full_blocks(seq, world.size)))

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
