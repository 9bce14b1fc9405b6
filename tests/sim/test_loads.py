"""Caches that come from elsewhere, and blocks that others read: counted, in any order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.loads import LOADING, Connector
from sim.engine.sequence import Sequence
from sim.engine.settings import Settings
from sim.settings.registry import ORDERS
from tests.tries import tries


class Everywhere(Connector):
    """Has some prompts, or their beginnings, and reads whoever it was told to."""

    def __init__(self) -> None:
        self.has: dict[Sequence, int] = {}
        self.loading: list[Sequence] = []
        self.reads: set[Sequence] = set()
        self.reading: list[Sequence] = []

    def matched(self, sequence: Sequence, past: int) -> int:
        """What it has beyond what is there."""
        return max(self.has.get(sequence, 0) - past, 0)

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """It takes its time."""
        del self.has[sequence]
        self.loading.append(sequence)

    def keeps(self, sequence: Sequence) -> bool:
        """Those it was told to read, when they have ended."""
        kept = sequence in self.reads and sequence.generated_tokens == sequence.output_tokens
        if kept:
            self.reading.append(sequence)
        return kept

    def dropped(self, sequence: Sequence) -> None:
        """It has it no longer."""
        self.has.pop(sequence, None)


class LoadsMachine(RuleBasedStateMachine):
    """Requests that load, run, are read and are given up."""

    @initialize(
        num_blocks=st.integers(4, 30),
        size=st.sampled_from([1, 3, 16]),
        order=st.sampled_from(["fcfs", "shortest_prompt", "priority"]),
        ahead=st.booleans(),
        caching=st.booleans(),
    )
    def start(self, num_blocks: int, size: int, order: str, ahead: bool, caching: bool) -> None:
        pool: BlockPool = BlockPool(num_blocks, size)
        if caching:
            pool = PrefixCache(num_blocks, size, lambda row: [(row % 3, 20)], True, ahead)
        settings_ = Settings(max_num_seqs=4, token_budget=24, ahead=ahead)
        self.scheduler = ChunkedPrefill(pool, ORDERS[order](), settings_)
        self.connector = Everywhere()
        self.scheduler.connect(self.connector)
        self.rows: list[Sequence] = []
        self.ended = 0

    @rule(
        prompt=st.integers(1, 60),
        output=st.integers(1, 40),
        priority=st.integers(0, 2),
        share=st.sampled_from([0.0, 0.4, 1.0]),
        read=st.booleans(),
    )
    def arrive(self, prompt: int, output: int, priority: int, share: float, read: bool) -> None:
        if self.scheduler.fits(prompt, output):
            row = Sequence(len(self.rows), float(len(self.rows)), prompt, output, priority)
            self.rows.append(row)
            if tokens := int(share * prompt):
                self.connector.has[row] = tokens
            if read:
                self.connector.reads.add(row)
            self.scheduler.admit(row)

    @precondition(lambda self: len(self.rows) > self.ended)
    @rule(share=st.integers(0, 1000))
    def compute(self, share: int) -> None:
        batch = self.scheduler.next_batch(1e9)
        if batch is None:
            assert self.connector.loading or self.connector.reading, "nobody can ever run"
        else:
            self.ended += len(self.scheduler.complete(batch, 1 + share % batch.steps))

    @precondition(lambda self: self.connector.loading or self.connector.reading)
    @rule(data=st.data())
    def is_over(self, data: st.DataObject) -> None:
        connector = self.connector
        row = data.draw(st.sampled_from([*connector.loading, *connector.reading]))
        under_way = connector.loading if row in connector.loading else connector.reading
        under_way.remove(row)
        self.scheduler.tell(row)

    @precondition(lambda self: len(self.rows) > self.ended)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        some = sorted(self.scheduler.unfinished(), key=lambda each: each.request)
        assert self.scheduler.abort(data.draw(st.sampled_from(some)))
        self.ended += 1

    @invariant()
    def blocks_add_up(self) -> None:
        scheduler, pool = self.scheduler, self.scheduler.pool
        loads = scheduler.loads
        assert loads is not None
        tokens = {row: row.kv_tokens for row in [*scheduler.running, *loads.kept]}
        for row in scheduler.running:
            if row.finish_step >= 0:
                tokens[row] += scheduler.decoding.step - row.joined_step
        tokens |= {row: row.loaded_tokens for row in loads.parked}
        if isinstance(pool, PrefixCache):
            pool.check_cache(list(tokens))
        else:
            pool.check_integrity(sum(map(pool.blocks, tokens.values())))
        assert len(scheduler.running) <= scheduler.max_num_seqs
        assert not set(loads.parked) & set(scheduler.running)
        assert loads.ready == sum(row.transit > LOADING for row in loads.wanted())

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert len(self.scheduler.unfinished()) == len(self.rows) - self.ended

    def teardown(self) -> None:
        """Let everything come to its end: no block is left."""
        if not hasattr(self, "rows"):
            return
        scheduler, connector = self.scheduler, self.connector
        for _ in range(10_000):
            batch = scheduler.next_batch(1e9)
            if batch is not None:
                self.ended += len(scheduler.complete(batch, 1))
            if connector.loading or connector.reading:
                scheduler.tell((connector.loading or connector.reading).pop())
            elif batch is None:
                break
        assert self.ended == len(self.rows)
        assert scheduler.pool.held == 0
        assert scheduler.tokens_to_prefill == 0


LoadsMachine.TestCase.settings = settings(tries(80), stateful_step_count=40)
TestLoads = LoadsMachine.TestCase
