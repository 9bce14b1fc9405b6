"""How a replica puts a step together, sequence by sequence."""

from math import inf

from tests.reference_blocks import Blocks
from tests.reference_sequence import Seq


class Planning(Blocks):
    """Who is in the next step, and with how many tokens."""

    def victim(self) -> Seq:
        if self.order == "priority":
            return max(self.running, key=lambda s: (s.priority, s.arrival_s, s.row))
        return self.running[-1]

    def throw_out_one(self, batch: dict) -> None:
        victim = self.victim()
        if victim.over:
            self.cut_off(victim)
            batch["closed"] = True
            return
        padding = [seq for seq in self.running if seq.done]
        if padding:
            # the row that ended last goes first
            self.drop(max(padding, key=lambda seq: seq.ended))
            return
        given = sum(tokens for seq, tokens, _ in batch["chunks"] if seq is victim)
        known = self.known(victim, victim in batch["decodes"])
        self.name(victim, victim.kv + given if given else known)
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
                self.flying = set()
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
        self.blocked = False

        def left() -> int:
            return self.budget - len(batch["decodes"]) - sum(c[1] for c in batch["chunks"])

        loading = [seq for seq in self.parked if seq.loads != "cancelled"]
        here = len(self.running) + len(self.waiting) + len(loading)
        alone = here == 1 and not self.limits_alone
        threshold = self.budget if alone else self.threshold
        idle: list[Seq] = []  # who was passed over in this step
        missed = 0
        for seq in list(self.running):
            if left() <= 0:
                break
            if seq not in self.running:
                continue
            idle.append(seq)
            if missed:
                missed -= 1
                continue
            if seq.over:
                continue
            tokens = 1
            if not seq.decoding:
                tokens = self.cut(seq, min(seq.target - seq.kv, left(), threshold), seq.kv)
            if not tokens:
                continue
            idle.remove(seq)
            while seq in self.running and not self.grow(seq, seq.kv + tokens, seq.kv):
                if self.defers and self.victim() in self.flying:
                    self.blocked = True
                    break
                before = [other for other in idle if other in self.running]
                self.throw_out_one(batch)
                missed += sum(other not in self.running for other in before) * self.misses
            if self.blocked:
                break
            if seq not in self.running:
                if self.serves_behind_victim:
                    continue
                break
            if seq.decoding:
                batch["decodes"].append(seq)
            else:
                batch["chunks"].append((seq, tokens, seq.kv))
        ends = {seq: past + tokens for seq, tokens, past in batch["chunks"]}
        ends |= {seq: self.known_in_step(seq) for seq in batch["decodes"]}
        for seq in self.running:
            if seq in ends:
                self.name(seq, ends[seq])
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
        here = len(found) * self.size
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
