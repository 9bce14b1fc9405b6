"""One replica, step by step."""

import numpy as np

from tests.reference_planning import Planning
from tests.reference_sequence import Seq


class Engine(Planning):
    """One replica: who comes, who leaves, what a step leaves behind."""

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
            self.let_go(seq)

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
        news = bool(self.dropping or self.arrived or self.told or self.late)
        empty = batch is None or not (batch["chunks"] or batch["decodes"])
        late, self.late, self.planned = self.late, [], batch
        for seq in self.dropping:
            self.drop_from(batch, seq)
        self.dropping = []
        if empty:
            late, self.late, self.members = late + self.late, [], set()
        for seq in late:
            self.drop_late(seq)
        self.name_processed()
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
            self.let_go(seq)
            seq.dropped = True

    def let_go(self, seq: Seq) -> None:
        """One was given up: its blocks are free when no step writes to them."""
        coming = self.planned or {"decodes": [], "wasted": [], "chunks": []}
        members = {*coming["decodes"], *coming["wasted"], *(c[0] for c in coming["chunks"])}
        if self.defers and seq in members | self.members:
            self.running.remove(seq)
            self.late.append(seq)
        else:
            self.drop(seq)

    def name_processed(self) -> None:
        """A step has ended: what it has put into the cache is known, also of who is passed over."""
        for seq in self.running:
            if self.ahead and seq.decoding:
                self.name(seq, seq.kv)

    def drop_late(self, seq: Seq) -> None:
        """The step that wrote to its blocks is over."""
        self.running.append(seq)
        self.drop(seq)

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
        news = self.catch_up(batch) or self.blocked
        if news and batch is None:
            self.again(now_s)
            batch = self.form(now_s)
            self.left = len(self.waiting) + len(self.parked)
        if self.ahead and self.has_ended:
            self.show(now_s)
        self.has_ended = False
        self.step = batch
        self.flying = set()
        if batch is None:
            return None
        if self.ahead:
            self.flying = {*batch["decodes"], *batch["wasted"], *(c[0] for c in batch["chunks"])}
        self.members = self.flying.copy()
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

    def again(self, now_s: float) -> None:
        """An empty step was planned, and the next one is, at once."""

    def show(self, now_s: float) -> None:
        """Its metrics, as they are until the next step has ended."""
        self.shown.append((now_s, len(self.running), self.left, self.total - self.free))

    def end(self) -> list[Seq]:
        batch, self.step = self.step, None
        end_s = batch["end_s"]
        self.add_up_reads(batch)
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

    def add_up_reads(self, batch: dict) -> None:
        """Add up what a step attends, by class of cache."""
        for work, window, reads in zip(self.work, self.windows, batch["reads"], strict=True):
            work[0] += reads
            for _, tokens, past in batch["chunks"]:
                seen = [
                    {key for key in range(at + 1) if at - key < window}
                    for at in range(past, past + tokens)
                ]
                work[1] += sum(map(len, seen))
                work[2] += len(set().union(*seen))

    def no_longer_wants(self, seq: Seq) -> None:
        self.unwanted.append(seq)
        if not self.step:
            self.forget_unwanted()

    def forget_unwanted(self) -> None:
        for seq in self.unwanted:
            self.abort(seq)
        self.unwanted = []

    joins = 0
