"""Blocks of the KV cache of a replica, one by one."""

from dataclasses import replace
from math import inf

from hardware.engines.versions import version_key
from sim.settings.pools import Pool
from tests.reference_sequence import Block, Seq


class Blocks:
    """What a replica is made of, and who has which of its blocks."""

    def __init__(self, pool: Pool) -> None:
        engine = pool.engine
        self.kind = engine.scheduler
        self.order = engine.order
        self.seats = engine.max_num_seqs
        self.budget = pool.token_budget
        self.threshold = engine.long_prefill_token_threshold or self.budget
        self.limits_alone = engine.long_prefill_limits_alone
        self.whole_fits = engine.scheduler_reserve_full_isl
        self.unhashed_first = engine.reuse_unhashed_first
        self.size = engine.block_size
        self.timeout_s = engine.batch_timeout_s
        self.total = pool.ledger.num_gpu_blocks - engine.null_block
        self.block_tokens = pool.ledger.block_size
        self.kv_blocks = pool.ledger.kv_tokens // pool.ledger.block_size
        # After each step its end, who runs, who was left waiting, and blocks in use.
        self.shown: list[tuple[float, int, int, int]] = []
        self.left = 0
        self.has_ended = False  # a step, at this instant
        self.max_model_len = pool.max_model_len
        self.caching = engine.enable_prefix_caching
        self.serves_behind_victim = version_key(engine.version) >= (0, 33)
        self.misses = version_key(engine.version) < (0, 28)
        self.blocks = [Block() for _ in range(self.total)]
        self.queue = list(self.blocks)  # the free ones, the next to be taken first
        self.group(pool)
        self.named = 0
        self.watermark = pool.watermark_blocks
        self.price = pool.price
        self.windows = [window or inf for window in pool.spec.windows]
        # By class of cache: positions of decodes, pairs and positions of chunks, pairs of drafts.
        self.work = [[0, 0, 0, 0] for _ in self.windows]
        self.waiting: list[Seq] = []
        self.running: list[Seq] = []
        self.members: set[Seq] | None = None  # static: who belongs to the batch but has no seat yet
        self.left_in_batch = 0
        self.step: dict | None = None
        self.deadline_s = inf
        self.steps: list[tuple] = []
        self.unwanted: list[Seq] = []
        self.sight: tuple | None = None  # whom others see, if the coming step is planned
        self.dropping: list[Seq] = []  # of these, those whom the coming step still has
        self.ahead = engine.async_scheduling
        self.arrived: list[Seq] = []  # unknown when the coming step is planned
        self.parked: list[Seq] = []  # whoever loads
        self.kept: list[Seq] = []  # who has ended, and has blocks that others read
        self.told: list[Seq] = []  # whose blocks were filled or read, unknown as well
        chunked = engine.scheduler == "chunked_prefill"
        connected = pool.role != "serve" or pool.host is not None or pool.store is not None
        connected = connected and version_key(engine.version) >= (0, 30)
        self.defers = chunked and connected and engine.async_scheduling
        self.flying: set[Seq] = set()  # ahead: who is in the step under way
        self.members: set[Seq] = set()  # the same, until it is known what it brought
        self.planned: dict | None = None  # and what was planned behind it
        self.late: list[Seq] = []  # who was given up, and has blocks until it has ended
        self.blocked = False  # whether somebody waits for its end
        self.load = None  # what happens when blocks for a whole prompt are there
        self.drop_unloaded = None  # and when one leaves that has not come so far

    def group(self, pool: Pool) -> None:
        """Groups of layers that have blocks of their own."""
        engine = pool.engine
        # A state and those of drafts: a block of each.
        groups = [
            replace(group, states=1)
            for group in pool.ledger.layout.groups
            for _ in range(group.states if group.state else 1)
        ]
        # Of every group: tokens of a block (of a state, all of them), and the window that is kept.
        self.groups = [
            (
                10**9 if group.state else group.block_tokens,
                inf if group.state else group.window or inf,
            )
            for group in groups
        ]
        self.chunked = [group.chunked for group in groups]
        self.several = len(self.groups) > 1
        self.lag = pool.ledger.waits_for_steps
        self.formed = 0
        longest, flight = pool.max_model_len, pool.ledger.in_flight_tokens
        # Up to 0.19 it wants room for whole prompts: also for what windows give back until then.
        uncapped = engine.scheduler_reserve_full_isl and version_key(engine.version) < (0, 20)
        self.most = [
            10**9 if uncapped and not group.state else group.most_blocks(longest, flight)
            for group in groups
        ]

    def takes(self, seq: Seq) -> bool:
        """Whether it could ever serve it, alone."""
        most = self.total - self.watermark * (self.kind != "chunked_prefill")
        tokens = seq.prompt + seq.output
        return tokens <= self.max_model_len and self.most_held(tokens - 1) <= most

    # --- blocks
    def need(self, tokens: int) -> int:
        return (tokens + self.size - 1) // self.size

    def cached_tokens(self, seq: Seq) -> int:
        """Tokens that are here of one that is not."""
        return len(self.find(seq)) * self.size

    states = 0  # blocks of a request that are a state

    def left_out(self, seq: Seq) -> int:
        """Tokens of a prompt that its own engine computes, where another one computes the rest."""
        return int(self.states > 0 and seq.prompt > 1)

    def blocks_of(self, past: int, tokens: int) -> int:
        """Blocks of the tokens behind the first ``past`` that somebody with ``tokens`` sees."""
        return self.need(tokens) - past // self.size

    def most_held(self, tokens: int) -> int:
        if not self.several:
            return self.need(tokens)
        return sum(
            min((tokens + size - 1) // size, most)
            for (size, _), most in zip(self.groups, self.most, strict=True)
        )

    @property
    def free(self) -> int:
        return len(self.queue)

    def computed(self, seq: Seq, past: int) -> int:
        """Tokens that windows may look back from: nothing under way is sure."""
        under_way = self.lag and seq.in_step == self.formed - 1
        return seq.begun if under_way else past

    def grow_groups(self, seq: Seq, tokens: int, past: int) -> bool:
        """As vLLM's coordinator: first what windows have left behind, then new blocks."""
        computed = self.computed(seq, past)
        for (size, window), chunked, table in zip(
            self.groups, self.chunked, seq.tables, strict=True
        ):
            if window < inf:
                seen = computed % window if chunked else window - 1
                for place in range(max(0, computed - seen) // size):
                    if table[place] is not None:
                        self.queue.append(table[place])
                        table[place] = None
        wanted = [(tokens + size - 1) // size for size, _ in self.groups]
        more = sum(want - len(table) for want, table in zip(wanted, seq.tables, strict=True))
        if more > self.free:
            return False
        for want, table in zip(wanted, seq.tables, strict=True):
            table += [self.queue.pop(0) for _ in range(want - len(table))]
        seq.begun, seq.in_step = past, self.formed
        return True

    def grow(self, seq: Seq, tokens: int, past: int) -> bool:
        if self.several:
            return self.grow_groups(seq, tokens, past)
        more = self.need(tokens) - len(seq.held)
        if more > self.free:
            return False
        for _ in range(more):
            block = self.queue.pop(0)
            block.text, block.holders = None, 1
            seq.held.append(block)
        return True

    def name(self, seq: Seq, tokens: int) -> None:
        """The full blocks of the first ``tokens`` tokens can be found from now on."""
        if not self.caching:
            return
        for place in range(tokens // self.size):
            if seq.held[place].text is None:
                self.named += 1
                seq.held[place].text = tuple(seq.text[: (place + 1) * self.size])
                seq.held[place].since = self.named

    def find(self, seq: Seq) -> list[Block]:
        found: list[Block] = []
        while self.caching and (len(found) + 1) * self.size <= seq.target - 1:
            text = tuple(seq.text[: (len(found) + 1) * self.size])
            same = [block for block in self.blocks if block.text == text]
            if not same:
                break
            found.append(min(same, key=lambda block: block.since))
        return found

    def known(self, seq: Seq, served: bool) -> int:
        """How many of its tokens are in full blocks that can be found."""
        if seq.kv < seq.target:
            return seq.kv
        if not self.ahead:
            return seq.kv + served  # blocks have their names when they are given
        if seq not in self.members:
            return seq.kv
        return max(seq.kv - (not served), seq.target)  # the token under way is not known yet

    def known_in_step(self, seq: Seq) -> int:
        """How many tokens of one that decodes are known, of those that it has after a step."""
        return seq.kv + (not self.ahead or seq not in self.flying)

    def drop(self, seq: Seq) -> None:
        self.running.remove(seq)
        for table in seq.tables:
            self.queue += [block for block in table if block is not None]
        seq.tables, seq.in_step = [[] for _ in self.groups], -1
        for block in reversed(seq.held):
            block.holders -= 1
            if not block.holders and self.unhashed_first and block.text is None:
                self.queue.insert(0, block)  # nobody can ever find it
            elif not block.holders:
                self.queue.append(block)
        seq.held = []
