"""The scorers of llm-d and what chooses among their sums, as plainly as can be."""

from collections import OrderedDict
from collections.abc import Callable

from tests.reference_routing import Choose, Seq, World, floats, one_of


def llm_d(world: World) -> tuple[Choose, Callable[[Seq, int, float], None]]:
    scores = Scores(world)
    picked = picker(world, floats(world.rng))

    def choose(seq: Seq, now_s: float) -> int:
        sums = [0.0 for _ in world.numbers]
        for name, weight in world.given["scorers"].items():
            for number, score in enumerate(scores.of(name, seq, now_s)):
                sums[number] += score * weight
        number = picked(sums)
        world.claimed = max((each[number] for each in scores.found.values()), default=0)
        return number

    return choose, scores.sent


def picker(world: World, luck) -> Callable[[list[float]], int]:
    """What chooses a replica by the sums of its scores."""
    kind = world.given["picker"]

    def picked(sums: list[float]) -> int:
        total = sum(sums)
        if kind == "max_score":
            return one_of([n for n in world.numbers if sums[n] == max(sums)], luck)
        if kind == "random" or not total:
            return int(next(luck) * len(sums))
        left = next(luck) * total
        for number in world.numbers:
            left -= sums[number]
            if left < 0.0:
                return number
        raise AssertionError

    return picked


class Scores:
    """What each scorer gives each replica, and what they remember of who was sent where."""

    def __init__(self, world: World) -> None:
        self.world, self.given = world, world.given
        self.index: list[OrderedDict] = [OrderedDict() for _ in world.numbers]
        self.homes: dict[int, int] = {}
        self.speculative: list[tuple] = []  # (when, replica, blocks)
        self.found: dict[str, list[int]] = {}  # by scorer: cached tokens by replica
        own = self.own = world.given["prefix_cache"]
        size = world.size if own["auto_tune"] else own["block_size_tokens"]
        self.most = own["max_prefix_blocks_to_match"]
        if own["max_prefix_tokens_to_match"]:
            self.most = own["max_prefix_tokens_to_match"] // size
        self.size = max(1, round(size * 4 / own["characters_per_token"]))

    def of(self, name: str, seq: Seq, now_s: float) -> list[float]:
        """The scores of all replicas."""
        kinds = {
            "prefix_cache": self.approximate, "precise_prefix_cache": self.precise,
            "session_affinity": self.home, "active_request": self.idle, "token_load": self.tokens,
        }  # fmt: skip
        return kinds[name](seq, now_s) if name in kinds else self.by_metrics(name, now_s)

    def by_metrics(self, name: str, now_s: float) -> list[float]:
        each = (self.world.metrics(n, now_s) for n in self.world.numbers)
        running, waiting, use = zip(*each, strict=True)
        if name == "queue":
            return spread(list(waiting))
        if name == "running_requests_size":
            return spread(list(running))
        if name == "kv_cache_utilization":
            return [1.0 - share for share in use]
        limit = self.given["load_aware_threshold"]
        return [0.5 * (1.0 - min(count, limit) / limit) for count in waiting]

    def hashed(self, seq: Seq) -> list[tuple]:
        """Full blocks, and the rest as one of its own; nothing of a prompt shorter than a block."""
        size, most = self.size, self.most
        tokens = min(seq.prompt, size * most)
        ends = range(size, tokens + 1, size)
        rest = [tokens] if tokens % size and len(ends) < most else []
        return [tuple(seq.text[:end]) for end in [*ends, *rest]] if ends else []

    def approximate(self, seq: Seq, _: float) -> list[float]:
        keys, counts = self.hashed(seq), [0 for _ in self.world.numbers]
        for key in keys:
            having = [number for number in self.world.numbers if key in self.index[number]]
            if not having:
                break
            for number in having:
                counts[number] += 1
        self.found["prefix_cache"] = [min(count * self.size, seq.prompt) for count in counts]
        return [min(count / len(keys), 1.0) if keys else 0.0 for count in counts]

    def precise(self, seq: Seq, now_s: float) -> list[float]:
        world, size = self.world, self.world.size
        tokens, whole = [world.cached(n, seq) for n in world.numbers], seq.prompt // size
        since_s = now_s - self.given["precise_prefix_cache"]["speculative_ttl_s"]
        for n in world.numbers:
            sent = {
                key
                for when, number, keys in self.speculative
                if number == n and when >= since_s
                for key in keys
            }
            while tuple(seq.text[: tokens[n] + size]) in sent:
                if tokens[n] + size > seq.prompt:
                    break
                tokens[n] += size
        self.found["precise_prefix_cache"] = tokens
        return [min(each / (whole * size), 1.0) if whole else 0.0 for each in tokens]

    def home(self, seq: Seq, _: float) -> list[float]:
        home = self.homes.get(self.world.session(seq))
        return [1.0 if number == home else 0.0 for number in self.world.numbers]

    def idle(self, _: Seq, __: float) -> list[float]:
        settings, loads = self.given["active_request"], self.world.loads()
        idle, busy = settings["idle_threshold"], settings["max_busy_score"]
        return [1.0 if n <= idle else (max(loads) - n) / max(loads) * busy for n in loads]

    def tokens(self, _: Seq, __: float) -> list[float]:
        limit = self.given["queue_threshold_tokens"]
        in_flight = [
            sum(seq.prompt + round(seq.prompt * 1.5) for seq in self.world.outstanding[number])
            for number in self.world.numbers
        ]
        return [1.0 - min(each, limit) / limit for each in in_flight]

    def sent(self, seq: Seq, number: int, now_s: float) -> None:
        """Remember where somebody was sent."""
        world, index = self.world, self.index[number]
        for key in self.hashed(seq):
            index.pop(key, None)
            index[key] = None
        room = self.own["lru_capacity_per_server"]
        if self.own["auto_tune"]:
            room = world.engines[number].kv_blocks
        while len(index) > room:
            index.popitem(last=False)
        if world.session(seq) >= 0:
            self.homes[world.session(seq)] = number
        if self.given["precise_prefix_cache"]["speculative_indexing"]:
            self.speculative.append((now_s, number, world.full_blocks(seq, world.size)))


def spread(counts: list[int]) -> list[float]:
    """One for the least, nothing for the most."""
    low, high = min(counts), max(counts)
    return [1.0 if low == high else (high - count) / (high - low) for count in counts]
