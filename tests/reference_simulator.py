"""A slow, obvious simulator: every sequence is touched in every step, every token has its time.

It shares with ``sim`` only the prices (``StepCost.step_s``) and the words. Whatever the fast path
computes with counters, heaps and histograms must equal this to the bit.
"""

from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from hardware.versions import version_key
from sim.acceptance import Synthetic
from sim.settings.pools import Pool
from sim.settings.scenario import Scenario
from tests import reference_routers
from workloads.requests import Requests


@dataclass(eq=False)
class Seq:
    row: int
    arrival_s: float  # at the engine
    prompt: int
    output: int
    priority: int
    text: list[tuple] = field(default_factory=list)  # what each token is, the answer's as well
    kv: int = 0
    target: int = 0
    token_s: list[float] = field(default_factory=list)
    held: list["Block"] = field(default_factory=list)
    tables: list[list["Block | None"]] = field(default_factory=list)  # of several groups
    begun: int = 0  # tokens before those of the last step that it was in
    in_step: int = -1  # which one that was
    cached: int = 0
    first_scheduled_s: float = float("nan")
    computed_s: float = 0.0  # of the steps with its prompt, before its first token
    preemptions: int = 0
    asked_s: float = float("nan")
    sent_s: float = float("nan")
    given_up_s: float = float("nan")
    home: int = -1
    claimed: int = -1
    metrics_age_s: float = float("nan")
    status: str = ""  # answered, rejected or given up: settled between client and router
    through: bool = False  # its engine has ended it
    over: bool = False  # ended, but whoever plans ahead does not know it yet
    drafts: int = 0  # that wait to be verified
    holders: int = 0  # tokens that a step under way is hoped to bring
    epoch: int = 0  # how often it lost its blocks
    dropped: bool = False  # nobody wants it, but it is in the step that was planned
    done: bool = False  # ended, but still a row of a static batch
    remote: bool = False  # another replica has the cache of its prompt
    loads: str = ""  # it has blocks for that, and is not served: loading, ready or cancelled
    brought_to: int = 0  # tokens that it has blocks of while it loads from its host
    brought: int = 0  # prompt tokens that came from there when it was first admitted
    store_tokens: int = 0  # those of them that a shared store had
    loading_s: float = 0.0
    under_way: int = 0  # tokens of the steps that are planned and have not ended
    lent: bool = False  # when it ends, its blocks stay for another replica

    @property
    def decoding(self) -> bool:
        return self.kv >= self.target and not self.done and not self.over


@dataclass(eq=False)
class Block:
    """A place in the KV cache; ``text`` is all that came before its end, when it is full."""

    text: tuple | None = None
    since: int = 0  # the older of two with the same text is found
    holders: int = 0


class Engine:
    """One replica."""

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
        self.blocks = [Block() for _ in range(self.total)]
        self.queue = list(self.blocks)  # the free ones, the next to be taken first
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
        self.load = None  # what happens when blocks for a whole prompt are there
        self.drop_unloaded = None  # and when one leaves that has not come so far

    def takes(self, seq: Seq) -> bool:
        """Whether it could ever serve it, alone."""
        most = self.total - self.watermark * (self.kind != "chunked_prefill")
        tokens = seq.prompt + seq.output
        return tokens <= self.max_model_len and self.most_held(tokens - 1) <= most

    # --- blocks
    def need(self, tokens: int) -> int:
        return (tokens + self.size - 1) // self.size

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
        for (size, window), table in zip(self.groups, seq.tables, strict=True):
            if window < inf:
                for place in range(max(0, computed - window + 1) // size):
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
        if seq.kv < seq.target or not self.ahead:
            return seq.kv
        return max(seq.kv - (not served), seq.target)  # the token under way is not known yet

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

    def throw_out_one(self, batch: dict) -> None:
        if self.order == "priority":
            victim = max(self.running, key=lambda s: (s.priority, s.arrival_s, s.row))
        else:
            victim = self.running[-1]
        if victim.over:
            self.cut_off(victim)
            batch["closed"] = True
            return
        padding = [seq for seq in self.running if seq.done]
        if padding:
            # the row that ended last goes first
            self.drop(max(padding, key=lambda seq: seq.ended))
            return
        self.name(victim, self.known(victim, victim in batch["decodes"]))
        self.drop(victim)
        batch["chunks"] = [c for c in batch["chunks"] if c[0] is not victim]
        batch["decodes"] = [seq for seq in batch["decodes"] if seq is not victim]
        victim.kv = 0
        victim.target = victim.prompt + len(victim.token_s)
        victim.preemptions += not victim.status
        self.waiting.insert(0, victim)
        batch["preempted"].append(victim)

    # --- the queue
    def head(self) -> Seq:
        if self.order == "fcfs":
            return self.waiting[0]
        if self.order == "shortest_prompt":
            return min(self.waiting, key=lambda s: (s.prompt, s.arrival_s, s.row))
        return min(self.waiting, key=lambda s: (s.priority, s.arrival_s, s.row))

    def seat(self, seq: Seq, most: int, batch: dict) -> bool:
        """Admit a request with up to ``most`` tokens of its prompt, if there are blocks."""
        found = self.find(seq)
        past = len(found) * self.size
        tokens = min(seq.target - past, most)
        idle = [block for block in found if not block.holders]
        must_fit = seq.target if self.whole_fits else past + tokens
        nobody_runs = self.kind == "chunked_prefill" and not self.running
        watermark = 0 if nobody_runs else self.watermark
        if self.free - len(idle) - (self.most_held(must_fit) - len(found)) < watermark:
            return False
        for block in found:
            block.holders += 1
        for block in idle:
            self.queue.remove(block)
        seq.held, seq.kv = found, past
        if not seq.preemptions and not seq.status:
            seq.cached = past
        self.waiting.remove(seq)
        self.running.append(seq)
        seq.tables = [[] for _ in self.groups]
        assert self.grow(seq, past + tokens, past)
        self.name(seq, past + tokens)
        batch["chunks"].append((seq, tokens, past))
        return True

    def cut(self, seq: Seq, tokens: int, past: int) -> int:
        """How many of the tokens that a chunk could have are in it."""
        return tokens

    # --- forming a batch
    def form(self, now_s: float) -> dict | None:
        batch: dict = {
            "chunks": [], "decodes": [], "padding": [], "preempted": [], "wasted": [],
            "closed": False,
        }  # fmt: skip
        self.deadline_s = inf
        if self.kind == "chunked_prefill":
            self.form_chunked(batch)
            if not batch["chunks"] and not batch["decodes"]:
                if not batch["preempted"] and not batch["closed"]:
                    return None
                self.catch_up(batch)
                return self.form(now_s)
            return batch
        if self.kind == "static":
            if not self.running:
                if not self.waiting:
                    return None
                due_s = self.head().arrival_s + self.timeout_s
                if len(self.waiting) < self.seats and now_s < due_s:
                    self.deadline_s = due_s
                    return None
                self.left_in_batch = min(len(self.waiting), self.seats)
            self.whole_prompts(batch, self.left_in_batch)
            self.left_in_batch = self.left_in_batch - len(batch["chunks"]) if batch["chunks"] else 0
        else:
            self.whole_prompts(batch, self.seats - len(self.running))
        if batch["chunks"]:
            return batch
        if not any(seq.decoding for seq in self.running):
            if not self.running:
                return None
            for seq in list(self.running):
                self.drop(seq)
            return self.form(now_s)
        self.all_decodes(batch)
        if self.kind == "prefill_first" and not self.running:
            again = self.form(now_s)
            assert again is not None
            again["preempted"] += batch["preempted"]
            return again
        batch["padding"] = [seq for seq in self.running if seq.done]
        return batch

    def whole_prompts(self, batch: dict, most: int) -> None:
        tokens = 0
        while self.waiting and len(batch["chunks"]) < most:
            seq = self.head()
            if batch["chunks"] and tokens + seq.target > self.budget:
                break
            if not self.seat(seq, seq.target, batch):
                break
            tokens += seq.target

    def all_decodes(self, batch: dict) -> None:
        while True:
            decodes = [seq for seq in self.running if seq.decoding]
            needs = [self.need(s.kv + 1) - len(s.held) for s in decodes]
            # vLLM v0 asks for a free block for each, one after the other, and the last may not
            # need it.
            asked = sum(needs) + (self.kind == "prefill_first" and needs[-1:] == [0])
            if asked <= self.free:
                break
            self.throw_out_one(batch)
        for seq in decodes:
            assert self.grow(seq, seq.kv + 1, seq.kv)

    def form_chunked(self, batch: dict) -> None:
        """As vLLM v1's loop over running requests, and then over waiting ones."""
        self.formed += 1

        def left() -> int:
            return self.budget - len(batch["decodes"]) - sum(c[1] for c in batch["chunks"])

        loading = [seq for seq in self.parked if seq.loads != "cancelled"]
        here = len(self.running) + len(self.waiting) + len(loading)
        alone = here == 1 and not self.limits_alone
        threshold = self.budget if alone else self.threshold
        for seq in list(self.running):
            if left() <= 0:
                break
            if seq not in self.running or seq.over:
                continue
            tokens = 1
            if not seq.decoding:
                tokens = self.cut(seq, min(seq.target - seq.kv, left(), threshold), seq.kv)
            if not tokens:
                continue
            while seq in self.running and not self.grow(seq, seq.kv + tokens, seq.kv):
                self.throw_out_one(batch)
            if seq not in self.running:
                if self.serves_behind_victim:
                    continue
                break
            if seq.decoding:
                batch["decodes"].append(seq)
            else:
                batch["chunks"].append((seq, tokens, seq.kv))
        for seq in batch["decodes"]:
            self.name(seq, seq.kv + (not self.ahead))
        for seq, tokens, past in batch["chunks"]:
            self.name(seq, past + tokens)
        if not batch["preempted"] and not batch["closed"]:
            self.start_prompts(batch, left, threshold)

    def start_prompts(self, batch: dict, left, threshold: int) -> None:
        """Whoever has its cache from elsewhere, then those who wait."""
        ready = [seq for seq in self.parked if seq.loads == "ready"]
        if self.order == "priority":
            ready.sort(key=lambda s: (s.priority, s.arrival_s, s.row))
        for seq in ready:
            tokens = min(left(), threshold)
            if tokens <= 0 or len(self.running) == self.seats:
                return
            if not self.seat_loaded(seq, tokens, batch):
                return
        while self.waiting and len(self.running) < self.seats:
            seq = self.head()
            tokens = min(left(), threshold)
            if tokens <= 0:
                break
            if not (self.park(seq, batch) if seq.remote else self.seat(seq, tokens, batch)):
                break

    # --- caches that come from another replica, or go there
    def park(self, seq: Seq, batch: dict) -> bool:
        """Take blocks for a whole prompt, and let those that are missing be loaded."""
        found = self.find(seq)
        idle = [block for block in found if not block.holders]
        promised = sum(
            self.need(other.target) - len(other.held)
            for other in self.running
            if other.kv < other.target
        )
        after = self.free - len(idle) - (self.need(seq.prompt) - len(found)) - promised
        if after < (self.watermark if self.running else 0):
            return False
        for block in found:
            block.holders += 1
        for block in idle:
            self.queue.remove(block)
        here = len(found)
        seq.held, seq.remote, seq.loads = found, False, "loading"
        assert self.grow(seq, seq.prompt, 0)
        self.waiting.remove(seq)
        self.parked.append(seq)
        self.load(seq, here, self.now_s)
        return True

    def seat_loaded(self, seq: Seq, most: int, batch: dict) -> bool:
        """Serve one that has its cache; the last token of the prompt is computed again."""
        self.name(seq, seq.prompt)
        if self.free < (self.watermark if self.running else 0):
            return False
        assert most > 0
        self.parked.remove(seq)
        seq.loads, seq.kv = "", seq.prompt - 1
        self.running.append(seq)
        batch["chunks"].append((seq, 1, seq.kv))
        return True

    def learn(self) -> None:
        for seq in self.told:
            if seq.loads == "loading":
                seq.loads = "ready"
            else:
                self.give_back(seq)
        self.told = []

    def give_back(self, seq: Seq) -> None:
        (self.kept if seq in self.kept else self.parked).remove(seq)
        seq.loads = ""
        self.running.append(seq)
        self.drop(seq)

    def abort(self, seq: Seq) -> None:
        """Nobody wants it any more: between two steps it is dropped, wherever it is."""
        if seq in self.arrived:
            self.arrived.remove(seq)
            self.forget(seq)
        elif self.ahead:
            self.dropping.append(seq)
        elif seq in self.parked:
            self.cancel(seq)
        elif seq in self.waiting:
            self.waiting.remove(seq)
            self.forget(seq)
        elif seq in self.running and not seq.done:
            if self.kind == "static":
                seq.done = True
                Engine.joins += 1
                seq.ended = Engine.joins
            else:
                self.leave(seq)

    def cancel(self, seq: Seq) -> None:
        if seq.loads == "ready":
            self.give_back(seq)
        else:
            seq.loads = "cancelled"

    def forget(self, seq: Seq) -> None:
        if seq.remote:
            self.drop_unloaded(seq)

    def cut_off(self, seq: Seq) -> None:
        """It has ended, and leaves before anybody has learned of its last token."""
        if seq.lent:
            self.leave(seq)
        else:
            self.name(seq, self.known(seq, False))
            self.drop(seq)

    def leave(self, seq: Seq) -> None:
        self.name(seq, seq.kv)
        if seq.lent:
            seq.over = False
            self.running.remove(seq)
            self.kept.append(seq)
        else:
            self.drop(seq)

    # --- planning ahead
    def arrive(self, seq: Seq) -> None:
        (self.arrived if self.ahead else self.waiting).append(seq)

    def catch_up(self, batch: dict | None) -> bool:
        news = bool(self.dropping or self.arrived or self.told)
        for seq in self.dropping:
            self.drop_from(batch, seq)
        self.dropping = []
        over = [seq for seq in self.running if seq.over]
        news = news or bool(over)
        for seq in over:
            self.leave(seq)
        self.learn()
        self.waiting += self.arrived
        self.arrived = []
        return news

    def drop_from(self, batch: dict | None, seq: Seq) -> None:
        """Nobody wants one that may be in the step that was planned: it is computed in vain."""
        if seq in self.waiting:
            self.waiting.remove(seq)
            self.forget(seq)
        elif seq in self.parked:
            self.cancel(seq)
        elif seq in self.running and seq.over:
            self.cut_off(seq)
        elif seq in self.running:
            assert batch is not None
            served = seq in batch["decodes"]
            if served:
                batch["decodes"].remove(seq)
                batch["wasted"].append(seq)
            computed = sum(tokens for other, tokens, _ in batch["chunks"] if other is seq)
            self.name(seq, self.known(seq, served) + computed)
            self.drop(seq)
            seq.dropped = True

    # --- one step
    def begin(self, now_s: float, idle: bool) -> None:
        batch = self.prepare(now_s)
        if batch is None:
            return
        start_s = now_s + self.price.idle_start_s * idle
        batch["start_s"] = start_s
        batch["end_s"] = start_s + self.price.step_s(batch["rows"], batch["reads"], batch["sizes"])

    def prepare(self, now_s: float) -> dict | None:
        self.now_s = now_s
        if not self.ahead:
            self.learn()
        batch = self.form(now_s)
        self.left = len(self.waiting) + len(self.parked)
        if self.catch_up(batch) and batch is None:
            batch = self.form(now_s)
            self.left = len(self.waiting) + len(self.parked)
        if self.ahead and self.has_ended:
            self.show(now_s)
        self.has_ended = False
        self.step = batch
        if batch is None:
            return None
        if self.kind != "chunked_prefill" and not batch["chunks"]:
            batch["decodes"] = [seq for seq in self.running if seq.decoding]
        for seq, _, _ in batch["chunks"]:
            if np.isnan(seq.first_scheduled_s) and not seq.status:
                seq.first_scheduled_s = now_s
        batch["rows"] = len(batch["decodes"]) + len(batch["wasted"]) + len(batch["padding"])
        lengths = [s.kv + 1 for s in batch["decodes"] + batch["wasted"]]
        lengths += [s.kv for s in batch["padding"]]
        batch["reads"] = [sum(min(length, w) for length in lengths) for w in self.windows]
        batch["sizes"] = [(tokens, past) for _, tokens, past in batch["chunks"]]
        batch["begun_s"] = now_s
        return batch

    def show(self, now_s: float) -> None:
        """Its metrics, as they are until the next step has ended."""
        self.shown.append((now_s, len(self.running), self.left, self.total - self.free))

    def end(self) -> list[Seq]:
        batch, self.step = self.step, None
        end_s = batch["end_s"]
        for work, window, reads in zip(self.work, self.windows, batch["reads"], strict=True):
            work[0] += reads
            for _, tokens, past in batch["chunks"]:
                seen = [
                    {key for key in range(at + 1) if at - key < window}
                    for at in range(past, past + tokens)
                ]
                work[1] += sum(map(len, seen))
                work[2] += len(set().union(*seen))
        ended = []
        for seq in sorted(batch["decodes"], key=lambda s: s.joined):
            seq.kv += 1
            seq.token_s.append(end_s)
            if len(seq.token_s) == seq.output:
                ended.append(seq)
        for seq, tokens, _ in batch["chunks"]:
            if not seq.token_s:
                seq.computed_s += end_s - batch["begun_s"]
            seq.kv += tokens
            if seq.kv == seq.target and not seq.dropped:
                seq.token_s.append(end_s)
                Engine.joins += 1
                seq.joined = Engine.joins
                if len(seq.token_s) == seq.output:
                    ended.append(seq)
        for seq in ended:
            if self.kind == "static":
                seq.done = True
                Engine.joins += 1
                seq.ended = Engine.joins
        for seq in ended:
            seq.over = self.ahead
        leaves = self.kind != "static" and not self.ahead
        for seq in self.unwanted:
            if leaves and seq in ended:
                self.leave(seq)
            elif seq not in ended or self.ahead:
                self.abort(seq)
        self.unwanted = []
        for seq in [seq for seq in self.running if seq in ended and leaves]:
            self.leave(seq)
        batch_over = self.kind == "static" and not self.left_in_batch
        if batch_over and all(seq.done for seq in self.running):
            for seq in list(self.running):
                self.drop(seq)
        self.steps.append(
            (
                batch["start_s"],
                end_s,
                len(batch["decodes"]),
                len(batch["padding"]) + len(batch["wasted"]) + batch.get("dummies", 0),
                len(batch["chunks"]),
                sum(tokens for _, tokens, _ in batch["chunks"]),
            )
        )
        self.has_ended = True
        if not self.ahead:
            self.show(end_s)
        return ended

    def no_longer_wants(self, seq: Seq) -> None:
        self.unwanted.append(seq)
        if not self.step:
            self.forget_unwanted()

    def forget_unwanted(self) -> None:
        for seq in self.unwanted:
            self.abort(seq)
        self.unwanted = []

    joins = 0


GIVE_UP, SEEN, REACH, ARRIVE = range(4)  # at one instant in this order, and then ends of steps


class World:
    """Users, client, router and engines, one event after the other."""

    def __init__(self, scenario: Scenario, requests: Requests) -> None:
        self.scenario, self.requests = scenario, requests
        self.engines = [
            engine_of(pool, scenario, requests)
            for pool in scenario.pools
            for _ in range(pool.replicas)
        ]
        self.units = units_of(scenario, self.engines)
        self.store = store_of(scenario, self.engines)
        self.outstanding: list[list[Seq]] = [[] for _ in self.engines]
        self.seen = reference_routers.World(scenario, requests, self.outstanding, self.engines)
        self.route, self.sent = reference_routers.reference_router(self.seen)
        if any(pool.data_parallel_size > 1 for pool in scenario.pools):
            self.route = route_to_ranks(scenario, self.outstanding, self.engines)
        self.limit = scenario.client.max_concurrency or inf
        self.timeout_s = scenario.client.timeout_s or inf
        self.events: list[tuple] = []
        self.counter = 0
        self.queue: list[Seq] = []
        self.in_flight = 0
        # Who begins something, in order; behind each, what its user says afterwards.
        self.openings: list[Seq] = []
        self.following: dict[Seq, list[Seq]] = {}
        self.unanswered: dict[Seq, list[Seq]] = {}
        self.under_way: dict[int, list[Seq]] = {}
        self.seqs = [
            Seq(i, 0.0, int(requests.prompt_tokens[i]), int(requests.output_tokens[i]),
                int(requests.priority[i]), target=int(requests.prompt_tokens[i]))
            for i in range(len(requests))
        ]  # fmt: skip
        for seq in self.seqs:
            seq.text = text_of(requests, seq)
            if requests.turn is None or requests.turn[seq.row] == 0:
                self.openings.append(seq)
            else:
                self.unanswered[seq] = [self.seqs[row] for row in rows_before(requests, seq.row)]
                for before in self.unanswered[seq]:
                    self.following.setdefault(before, []).append(seq)
        if requests.users is not None:
            for _ in range(min(requests.users, len(self.openings))):
                self.think(self.openings.pop(0), 0.0, False)
        else:
            self.come_next(0.0)

    def come_next(self, now_s: float) -> None:
        """Wait for the next open arrival; those of the same moment are asked together."""
        if self.openings:
            first_s = float(self.requests.arrival_s[self.openings[0].row])
            self.at(first_s, ARRIVE, self.come, self.openings[0])

    def come(self, _: Seq, now_s: float) -> None:
        while self.openings and self.requests.arrival_s[self.openings[0].row] == now_s:
            self.ask(self.openings.pop(0), now_s)
        self.come_next(now_s)

    def at(self, time_s: float, rank: int, action, seq: Seq) -> None:
        self.counter += 1
        self.events.append((time_s, rank, self.counter, action, seq))

    def think(self, seq: Seq, now_s: float, at_once: bool) -> None:
        then_s = now_s + float(self.requests.think_s[seq.row])
        if at_once and then_s == now_s:
            self.ask(seq, then_s)
        else:
            self.at(then_s, ARRIVE, self.ask, seq)

    def ask(self, seq: Seq, now_s: float) -> None:
        seq.asked_s = now_s
        if self.in_flight < self.limit:
            self.send(seq, now_s)
        else:
            self.queue.append(seq)

    def send(self, seq: Seq, now_s: float) -> None:
        self.in_flight += 1
        seq.sent_s = now_s
        if self.timeout_s < inf:
            self.at(now_s + self.timeout_s, GIVE_UP, self.give_up, seq)
        api = self.scenario.api
        seq.arrival_s = now_s + (api.request_s + api.token_s * seq.prompt)
        if seq.arrival_s == now_s:
            self.reach(seq, now_s)
        else:
            self.at(seq.arrival_s, REACH, self.reach, seq)

    def reach(self, seq: Seq, now_s: float) -> None:
        if seq.status:
            return
        some = any(engine.takes(seq) for engine in self.engines)
        home = self.route(seq, now_s) if some else -1
        if home < 0 or not self.engines[home].takes(seq):
            seq.status = "rejected"
            self.free(seq, now_s, False)
            return
        seq.home = home
        self.sent(seq, home, now_s)
        seq.claimed, seq.metrics_age_s = self.seen.claimed, self.seen.age_s
        self.outstanding[seq.home].append(seq)
        self.engines[seq.home].arrive(seq)

    def ended(self, seqs: list[Seq], now_s: float) -> None:
        seqs = [seq for seq in seqs if not seq.status]
        output_s = self.scenario.api.output_s
        if not output_s:
            for seq in seqs:
                self.outstanding[seq.home].remove(seq)
        for seq in seqs:
            seq.through = True
            if now_s + output_s >= seq.sent_s + self.timeout_s:
                continue  # complete, and too late
            seq.status = "answered"
            if not output_s:
                self.free(seq, now_s, True)
        answered = [seq for seq in seqs if seq.status]
        if output_s and answered:
            self.at(now_s + output_s, SEEN, lambda _, then_s: self.see(answered, then_s), answered)

    def see(self, seqs: list[Seq], now_s: float) -> None:
        """The last tokens of one step are sent: for the router these are gone."""
        for seq in seqs:
            self.outstanding[seq.home].remove(seq)
        for seq in seqs:
            self.free(seq, now_s, True)

    def give_up(self, seq: Seq, now_s: float) -> None:
        if seq.status:
            return
        seq.status, seq.given_up_s = "given up", now_s
        if seq.home >= 0 and seq in self.outstanding[seq.home]:
            self.outstanding[seq.home].remove(seq)
            if not seq.through:
                self.hang_up(seq, now_s)
        self.free(seq, now_s, True)

    def hang_up(self, seq: Seq, now_s: float) -> None:
        self.engines[seq.home].no_longer_wants(seq)

    def free(self, seq: Seq, now_s: float, at_once: bool) -> None:
        self.in_flight -= 1
        while self.queue and self.in_flight < self.limit:
            self.send(self.queue.pop(0), now_s)
        ready = []
        if seq.status == "answered":
            for after in self.following.get(seq, []):
                self.unanswered[after].remove(seq)
                if not self.unanswered[after]:
                    ready.append(after)
        session = seq.row if self.requests.session is None else self.requests.session[seq.row]
        others = self.under_way.setdefault(session, [seq])
        others.remove(seq)
        others.extend(ready)
        nobody_is_left = not others
        for after in ready:
            self.think(after, now_s, at_once)
        if nobody_is_left and self.requests.users is not None and self.openings:
            self.think(self.openings.pop(0), now_s, at_once)

    def run(self, stop_s: float) -> None:
        while True:
            times = [engine.step["end_s"] for engine in self.engines if engine.step]
            times += [engine.deadline_s for engine in self.engines if not engine.step]
            times += self.more_times()
            if self.events:
                times.append(min(self.events)[0])
            now_s = min(times, default=inf)
            if now_s == inf or now_s > stop_s:
                return
            while self.something_happens(now_s):
                pass

    def more_times(self) -> list[float]:
        """When something else may happen."""
        return [job.due_s for job in self.store.active] if self.store else []

    def happens_first(self, now_s: float) -> None:
        """What comes before all other events of an instant."""
        if self.store:
            self.store.go_on(now_s)

    def something_happens(self, now_s: float) -> bool:
        """All events of this instant, then the first engine that ends or begins a step."""
        self.happens_first(now_s)
        while self.events and min(self.events)[0] == now_s:
            event = min(self.events)
            self.events.remove(event)
            event[3](event[4], now_s)
            self.happens_first(now_s)
        for unit in self.units:
            if unit[0].step and unit[0].step["end_s"] == now_s:
                for ended in end_together(unit):
                    self.ended(ended, now_s)
                begin_together(unit, now_s, False)
                return True
            if not unit[0].step:
                begin_together(unit, now_s, True)
                if unit[0].step:
                    return True
        return False


def rows_before(requests: Requests, row: int) -> list[int]:
    """The rows whose answers a row waits for."""
    if requests.after is None:
        return [row - 1]
    first, last = requests.after.offsets[row : row + 2]
    return requests.after.rows[first:last].tolist()


# --- data-parallel ranks
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


def reference(
    scenario: Scenario, requests: Requests, stop_s: float = inf, world: type[World] = World
) -> dict:
    """Simulate step by step; return request columns, steps per replica and every token's time."""
    world = world(scenario, requests)
    world.run(stop_s)
    engines = world.engines
    return {
        "seqs": world.seqs,
        "steps": [engine.steps for engine in engines],
        "held": sum(engine.total - engine.free for engine in engines),
        "work": [engine.work for engine in engines],
        "world": world,
    }


def store_of(scenario: Scenario, engines: list[Engine]):
    """Return the store that all engines share; None: they share none."""
    shared = scenario.pools[0].store
    if shared is None:
        return None
    from tests.reference_store import Store

    store = Store(shared.chunks, shared.latency_s)
    for engine in engines:
        engine.store = store
    return store


def engine_of(pool: Pool, scenario: Scenario, requests: Requests) -> Engine:
    """Return an empty replica of a pool."""
    if pool.store is not None and pool.host is not None:
        from tests.reference_store import HostStoreEngine

        return HostStoreEngine(pool)
    if pool.store is not None:
        from tests.reference_store import StoreEngine

        return StoreEngine(pool)
    if pool.host is not None:
        from tests.reference_tiers import TierEngine

        return TierEngine(pool)
    if len(pool.ledger.layout.groups) > 1 and pool.drafts is not None:
        from tests.reference_drafted_groups import DraftGroupsEngine, DraftHybridEngine

        kind = DraftHybridEngine if pool.engine.enable_prefix_caching else DraftGroupsEngine
        return kind(pool, Synthetic(pool.drafts.speculative, requests, scenario.seed))
    if len(pool.ledger.layout.groups) > 1 and pool.engine.enable_prefix_caching:
        from tests.reference_hybrid import HybridEngine
        from tests.reference_states import StateEngine

        return (StateEngine if pool.ledger.layout.has_states else HybridEngine)(pool)
    if pool.pipeline is not None:
        from tests.reference_pipeline import PipelineEngine

        return PipelineEngine(pool)
    if pool.drafts is None:
        return Engine(pool)
    from tests.draft_reference import DraftEngine

    speculative = pool.drafts.speculative
    return DraftEngine(pool, Synthetic(speculative, requests, scenario.seed))


def text_of(requests: Requests, seq: Seq) -> list[tuple]:
    """What every token of a request is: of a stream that others may have, or its own."""
    text: list[tuple] = []
    if requests.prefixes is not None:
        offsets, streams, ends = (
            values.tolist()
            for values in (
                requests.prefixes.offsets, requests.prefixes.streams, requests.prefixes.ends
            )
        )  # fmt: skip
        for place in range(offsets[seq.row], offsets[seq.row + 1]):
            text += [(streams[place], at) for at in range(len(text), ends[place])]
    own = range(len(text), seq.prompt + seq.output)
    return text + [("own", seq.row, at) for at in own]
