"""Data-parallel ranks, step by step."""

from sim.settings.scenario import Scenario
from tests.reference_engine import Engine
from tests.reference_sequence import Seq


def units_of(scenario: Scenario, engines: list[Engine]) -> list[list[Engine]]:
    """Engines that compute their steps together; most are alone."""
    units: list[list[Engine]] = []
    for pool in scenario.pools:
        for _ in range(pool.replicas // pool.ranks.count):
            first = sum(map(len, units))
            units.append(engines[first : first + pool.ranks.count])
            units[-1][0].wave, units[-1][0].ranks = 0, pool.ranks
    return units


def begin_together(unit: list[Engine], now_s: float, idle: bool) -> None:
    first = unit[0]
    if len(unit) == 1:
        first.begin(now_s, idle)
        return
    for engine in unit:
        engine.prepare(now_s)
    if not first.wave and not any(engine.step for engine in unit):
        return
    if hasattr(first, "seconds_together"):
        draft_together(unit, now_s)
        return
    for engine in unit:
        if engine.step is None:
            engine.step = {
                "chunks": [], "decodes": [], "padding": [], "wasted": [], "sizes": [], "rows": 0,
                "reads": [0] * len(engine.windows), "begun_s": now_s, "dummies": 1,
            }  # fmt: skip
    steps = [engine.step for engine in unit]
    tokens = [
        step["rows"] + step.get("dummies", 0) + sum(chunk for chunk, _ in step["sizes"])
        for step in steps
    ]
    joint, most = first.price.together, max(tokens)
    padded = int(joint.padded[most])
    computed = tokens if padded < 0 else [padded] * len(unit)
    own = [
        engine.price.joint.own.step_s(step["rows"], step["reads"], step["sizes"])
        + float(joint.token_s[count])
        for engine, step, count in zip(unit, steps, computed, strict=True)
    ]
    together_s = float(joint.most_s[max(computed)]) + float(joint.total_s[sum(computed)])
    start_s = now_s if first.wave else now_s + first.price.idle_start_s
    for step in steps:
        step["start_s"] = start_s
        step["end_s"] = start_s + (max(own) + together_s)


def draft_together(unit: list[Engine], now_s: float) -> None:
    first = unit[0]
    computing = [engine for engine in unit if engine.step is not None]
    for engine in unit:
        engine.step = engine.step or engine.dummy(now_s)
    start_s = now_s if first.wave else now_s + first.price.idle_start_s
    end_s = start_s + first.seconds_together(unit)
    for engine in unit:
        engine.step |= {"start_s": start_s, "end_s": end_s}
    for engine in computing:
        engine.plan_ahead(now_s)


def end_together(unit: list[Engine]) -> list[list[Seq]]:
    first = unit[0]
    ended = [engine.end() for engine in unit]
    if len(unit) == 1:
        return ended
    first.wave += 1
    synced = first.wave % first.ranks.sync_steps == 0
    synced = synced or (first.ranks.syncs_first and first.wave == 1)
    busy = any(
        engine.waiting or engine.arrived or [seq for seq in engine.running if not seq.over]
        for engine in unit
    )
    if synced and not busy:
        first.wave = 0
    return [seqs for seqs in ended if seqs]


def route_to_ranks(scenario: Scenario, outstanding: list[list[Seq]], engines: list[Engine]):
    """The router of engines, and vLLM's choice among the ranks of one."""
    ranks: list[list[int]] = []
    for pool in scenario.pools:
        for _ in range(pool.replicas // pool.data_parallel_size):
            start = sum(map(len, ranks))
            ranks.append(list(range(start, start + pool.data_parallel_size)))
    pools = [pool for pool in scenario.pools for _ in range(pool.replicas)]
    turns = [0] * len(ranks)

    def requests_of(engine: int) -> int:
        return sum(len(outstanding[number]) for number in ranks[engine])

    asked = iter(range(10**9))

    def outer() -> int:
        if scenario.router == "round_robin":
            return next(asked) % len(ranks)
        assert scenario.router == "least_requests"
        return min(range(len(ranks)), key=lambda engine: (requests_of(engine), engine))

    def score(number: int) -> float:
        engine = engines[number]
        queue, runs, free = engine.sight or (engine.waiting, engine.running, engine.free)
        waiting = len(queue) + len(engine.arrived)
        running = len([seq for seq in runs if not seq.over])
        version = tuple(map(int, pools[number].engine.version.split(".")))
        if version < (0, 27):
            return waiting * 4 + running
        used = 1 - free / engine.total
        return waiting + running + waiting * 6 * max(0.0, used - 0.5)

    def route(seq: Seq, now_s: float) -> int:
        engine = outer()
        numbers, turn = ranks[engine], turns[engine]
        if len(numbers) == 1:
            return numbers[0]
        version = tuple(map(int, pools[numbers[0]].engine.version.split(".")))
        if version >= (0, 28):
            turns[engine] += 1
        order = [numbers[(turn + place) % len(numbers)] for place in range(len(numbers))]
        return min(order, key=score)

    return route
