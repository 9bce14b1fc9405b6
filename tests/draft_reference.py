"""vLLM's loop with drafts, literally: what is computed, what is only hoped for, what was drawn.

A step is planned when the one before it begins, where scheduling is ahead; nothing that it brings
is known then. Shares with ``sim`` the prices and the draws alone.
"""

import numpy as np

from hardware.engines.versions import version_key
from sim.engine.drafts.drafting import Acceptance
from sim.machines import priced_machine
from sim.settings.pools import Pool
from tests.reference_draft_planning import DraftPlanning
from tests.reference_engine import Engine
from tests.reference_sequence import Seq


class DraftEngine(DraftPlanning):
    """One replica. Of a sequence: ``kv`` counts tokens computed or under way, ``holders`` what a
    step under way is hoped to bring, ``drafts`` those that wait to be verified."""

    def __init__(self, pool: Pool, acceptance: Acceptance) -> None:
        super().__init__(pool)
        drafting = pool.drafts.drafting
        self.drafting, self.acceptance = drafting, acceptance
        self.proposed = drafting.tokens
        self.slots, self.lookahead = drafting.slots, drafting.lookahead
        self.machine = priced_machine(pool)
        self.cost = pool.draft_cost
        self.idle_start_s = pool.price.idle_start_s
        self.chosen = drafting.chosen
        self.tells_at_end = version_key(pool.engine.version) >= (0, 33)
        self.planned: dict | None = None
        self.has_plan = False

    # --- a step
    def begin(self, now_s: float, idle: bool) -> None:
        self.prepare(now_s)
        if self.step is not None:
            self.put_price(self.step, now_s, idle)
            self.plan_ahead(now_s)

    def plan_ahead(self, now_s: float) -> None:
        if self.ahead:
            self.sight = (list(self.waiting), list(self.running), self.free)
            self.planned, self.has_plan = self.form(now_s), True

    def prepare(self, now_s: float) -> None:
        self.sight = None
        planned = self.has_plan
        batch = self.planned if planned else self.form(now_s)
        self.planned, self.has_plan = None, False
        self.count_preempted(batch)
        again = batch is not None and "again" in batch
        news = self.catch_up(None if again else batch)
        if again or ((news or planned) and batch is None):
            preempted = batch["preempted"] if again else []
            batch = self.form(now_s)
            self.count_preempted(batch)
            while batch is not None and "again" in batch:
                preempted += batch["preempted"]
                self.catch_up(None)
                batch = self.form(now_s)
                self.count_preempted(batch)
            if batch is not None:
                batch["preempted"] = preempted + batch["preempted"]
        self.step = batch
        if batch is None:
            return
        batch["begun_s"] = now_s
        for entry in batch["rows"]:
            seq = entry["seq"]
            if entry.get("admitted") and not seq.status:
                seq.cached = entry["past"]
            if entry["prefills"] and np.isnan(seq.first_scheduled_s) and not seq.status:
                seq.first_scheduled_s = now_s
        self.count_reads(batch)

    @staticmethod
    def count_preempted(batch: dict | None) -> None:
        for seq in batch["preempted"] if batch else []:
            seq.preemptions += not seq.status

    def count_reads(self, batch: dict) -> None:
        decodes = [entry for entry in batch["rows"] if not entry["prefills"]]
        batch["chunks"] = [(e["tokens"], e["past"]) for e in batch["rows"] if e["prefills"]]
        batch["reads"], batch["pairs"] = [], []
        for window, chosen in zip(self.windows, self.chosen, strict=True):
            reads = pairs = 0
            for entry in decodes:
                kv, rows = self.known_tokens(entry["seq"]) - 1, entry["tokens"]
                seen = [{at for at in range(kv + row) if kv + row - at <= window}
                        for row in range(1, rows + 1)]  # fmt: skip
                pairs += sum(map(len, seen))
                reads += sum(map(len, seen)) if chosen else len(set().union(*seen))
            batch["reads"].append(reads)
            batch["pairs"].append(pairs)
        batch["lengths"] = [entry["tokens"] for entry in decodes]

    def put_price(self, batch: dict, now_s: float, idle: bool) -> None:
        rows = batch["lengths"]
        start_s = now_s + self.idle_start_s * idle
        batch["start_s"] = start_s
        batch["end_s"] = start_s + self.machine.step_s(
            len(rows), sum(rows), max(rows, default=0), batch["reads"], batch["chunks"]
        )

    def seconds_together(self, unit: list["DraftEngine"]) -> float:
        """Of a step of ranks: the target's pass, and then each of the drafter's, all in step."""
        k, cost = self.drafting.tokens, self.cost
        steps = [engine.step for engine in unit]
        chunks = [step["chunks"] for step in steps]
        ends = [
            [
                (reads if step["lengths"] else 0)
                + sum(min(tokens + past, window) for tokens, past in step["chunks"])
                for reads, window in zip(step["reads"], self.windows, strict=True)
            ]
            for step in steps
        ]

        def a_pass(
            of, rows: list[list[int]], reads: list, chunks: list, sampled: list, host_s: float
        ):
            tokens = [
                (1 + k if of is cost.target or chunks is not NONE else 1)
                if "dummies" in step
                else sum(own) + sum(tokens for tokens, _ in each)
                for step, own, each in zip(steps, rows, chunks, strict=True)
            ]
            shares, together = of.joint.shares_s(tokens)
            own_s = []
            for rank, own in enumerate(rows):
                prices = of.by_rows[max(own, default=1)]
                attention_s = prices.attention_s(len(own), reads[rank], chunks[rank])
                own_s.append(
                    prices.overhead_s + of.logits_s[sampled[rank]] + attention_s
                    + host_s * (len(own) + len(chunks[rank])) + shares[rank]
                )  # fmt: skip
            return max(own_s) + together

        NONE = [[] for _ in steps]
        lengths = [step["lengths"] for step in steps]
        reads = [step["reads"] for step in steps]
        rows = [sum(own) + len(each) for own, each in zip(lengths, chunks, strict=True)]
        sequences = [len(own) + len(each) for own, each in zip(lengths, chunks, strict=True)]
        total_s = a_pass(cost.target, lengths, reads, chunks, rows, cost.sequence_s)
        if cost.drafter is not None:
            total_s += a_pass(cost.drafter, lengths, reads, chunks, sequences, 0.0)
            if k > 1:
                ones = [[1] * count for count in sequences]
                total_s += (k - 1) * a_pass(cost.drafter, ones, ends, NONE, sequences, 0.0)
        return total_s

    def dummy(self, now_s: float) -> dict:
        """What it computes while others do something."""
        nothing = [0] * len(self.windows)
        return {"rows": [], "reads": nothing, "pairs": nothing, "chunks": [], "lengths": [],
                "begun_s": now_s, "dummies": 1}  # fmt: skip

    def count_work(self, batch: dict) -> None:
        for at, window in enumerate(self.windows):
            work = self.work[at]
            work[0] += batch["reads"][at]
            work[3] += batch["pairs"][at] - batch["reads"][at]
            for tokens, past in batch["chunks"]:
                seen = [{key for key in range(place + 1) if place - key < window}
                        for place in range(past, past + tokens)]  # fmt: skip
                work[1] += sum(map(len, seen))
                work[2] += len(set().union(*seen))

    def end(self) -> list[Seq]:
        batch, self.step = self.step, None
        end_s = batch["end_s"]
        self.count_work(batch)
        entries = batch["rows"]
        decodes = [entry for entry in entries if not entry["prefills"]]
        decodes.sort(key=lambda entry: getattr(entry["seq"], "joined", 0))
        proposed = self.drafting.proposed(len(entries))
        ended, given, wasted = [], 0, 0
        for entry in [*decodes, *(entry for entry in entries if entry["prefills"])]:
            seq = entry["seq"]
            if seq.over or not entry["lives"]:
                wasted += not entry["prefills"]
                continue
            if entry["prefills"] and not seq.token_s:
                seq.computed_s += end_s - batch["begun_s"]
            if not entry["samples"]:
                continue
            if not entry["prefills"]:
                given += 1
            ended += self.sample(entry, end_s, proposed)
        for seq in ended:
            seq.over = self.ahead
        for seq in self.unwanted:
            if not self.ahead and seq in ended:
                self.leave(seq)
            elif seq not in ended or self.ahead:
                self.abort(seq)
        self.unwanted = []
        if not self.ahead:
            for seq in [seq for seq in self.running if seq in ended]:
                self.leave(seq)
        chunks = [entry for entry in entries if entry["prefills"]]
        wasted += batch.get("dummies", 0)
        self.steps.append(
            (batch["start_s"], end_s, given, wasted, len(chunks), sum(e["tokens"] for e in chunks))
        )
        return ended

    def sample(self, entry: dict, end_s: float, proposed: int) -> list[Seq]:
        """What comes out of the target's pass: drafts in a row that are right, and one token."""
        seq, scheduled, accepted = entry["seq"], entry["drafted"], 0
        if entry["padded"]:
            scheduled = self.drafting.tokens
        else:
            accepted = min(self.acceptance.of(seq.row)[len(seq.token_s)], scheduled)
        if entry["prefills"]:
            Engine.joins += 1
            seq.joined = Engine.joins
        stale = entry["epoch"] != seq.epoch
        if not stale:
            seq.kv -= scheduled - accepted
            if self.ahead:
                seq.holders -= scheduled - accepted
            else:
                seq.drafts = proposed
        tokens = min(1 + accepted, seq.output - len(seq.token_s))
        seq.token_s += [end_s] * tokens
        finished = len(seq.token_s) == seq.output
        if not self.ahead and self.tells_at_end and seq not in self.unwanted:
            self.name(seq, min(seq.kv, self.known_tokens(seq) - 1))
        if self.ahead and not stale:
            seq.holders -= tokens
            if seq not in self.unwanted:
                self.name(seq, min(seq.kv - seq.holders, self.known_tokens(seq) - 1))
        if stale and finished:
            assert self.planned is not None  # its last token was under way: nothing is lost
            self.planned["preempted"].remove(seq)
        return [seq] if finished else []

    def leave(self, seq: Seq) -> None:
        if seq in self.waiting:
            self.waiting.remove(seq)  # thrown out while its last token was under way
        else:
            self.drop(seq)

    def catch_up(self, batch: dict | None) -> bool:
        news = bool(self.dropping or self.arrived)
        for seq in self.dropping:
            self.drop_from(batch, seq)
        self.dropping = []
        over = [seq for seq in [*self.running, *self.waiting] if seq.over]
        news = news or bool(over)
        for seq in over:
            self.leave(seq)
        self.waiting += self.arrived
        self.arrived = []
        return news

    def drop_from(self, batch: dict | None, seq: Seq) -> None:
        seq.dropped = True
        if seq in self.waiting:
            self.waiting.remove(seq)
        elif seq in self.running:
            for entry in batch["rows"] if batch else []:
                if entry["seq"] is seq:
                    entry["lives"] = False
            self.drop(seq)

    def abort(self, seq: Seq) -> None:
        if seq in self.arrived:
            self.arrived.remove(seq)
        elif self.ahead:
            self.dropping.append(seq)
        elif seq in self.waiting:
            self.waiting.remove(seq)
        elif seq in self.running:
            self.leave(seq)
