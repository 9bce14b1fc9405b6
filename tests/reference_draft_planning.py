"""How a replica with drafts puts a step together, as vLLM's schedule() does."""

from tests.reference_engine import Engine
from tests.reference_sequence import Seq


class DraftPlanning(Engine):
    """Who is in the next step, with how many tokens, and which of them are drafts."""

    def takes(self, seq: Seq) -> bool:
        tokens = seq.prompt + seq.output
        extra = 0
        if self.most_held(self.max_model_len) > self.total:
            extra = self.drafting.tokens * (1 + self.ahead) + self.lookahead
        return tokens <= self.max_model_len and self.most_held(tokens + extra - 1) <= self.total

    def find(self, seq: Seq) -> list:
        found = super().find(seq)
        return found[:-1] if self.drafting.drops_block else found

    def known_tokens(self, seq: Seq) -> int:
        return seq.prompt + len(seq.token_s)

    # --- schedule()
    def form(self, now_s: float) -> dict | None:
        batch = {"rows": [], "preempted": [], "closed": False, "begun_s": now_s}
        waiting = len(self.waiting) + sum(seq.loads != "cancelled" for seq in self.parked)
        alone = len(self.running) + waiting == 1 and not self.limits_alone
        threshold = self.budget if alone else self.threshold
        self.left = self.budget
        for seq in list(self.running):
            if self.left <= self.slots:
                break
            if seq not in self.running:
                continue
            if seq.holders and seq.kv + 2 - seq.holders >= seq.prompt + seq.output:
                continue
            known = self.known_tokens(seq)
            if seq.kv < seq.target:
                tokens = seq.target - seq.kv  # a first token under way is none yet
            else:
                tokens = known + seq.drafts + seq.holders - seq.kv
            tokens = min(tokens, threshold, self.left - self.slots)
            tokens = min(tokens, self.max_model_len - seq.kv - 1)
            if not tokens:
                continue
            if not self.allocate(seq, tokens, batch):
                if self.serves_behind_victim:
                    continue
                break
            drafted = 0
            if seq.kv >= seq.target:
                drafted = tokens + seq.kv - known - seq.holders
            seq.drafts = 0
            self.put(batch, seq, tokens, drafted)
        if not batch["preempted"] and not batch["closed"]:
            self.admit(batch, threshold)
        for entry in batch["rows"]:
            self.after_schedule(entry, len(batch["rows"]))
        if not batch["rows"]:
            if batch["preempted"] or batch["closed"]:
                return batch | {"again": True}
            return None
        return batch

    def put(self, batch: dict, seq: Seq, tokens: int, drafted: int, padded: bool = False) -> None:
        prefills = seq.kv < seq.target
        batch["rows"].append(
            {"seq": seq, "tokens": tokens, "past": seq.kv, "drafted": drafted,
             "prefills": prefills, "padded": padded, "epoch": seq.epoch, "lives": True}
        )  # fmt: skip
        self.left -= tokens + self.slots
        self.name(seq, min(seq.kv + tokens, self.known_tokens(seq)))

    def allocate(self, seq: Seq, tokens: int, batch: dict) -> bool:
        most = min(seq.kv + tokens + self.lookahead, self.max_model_len)
        while not self.grow(seq, most, seq.kv):
            if self.order == "priority":
                victim = max(self.running, key=lambda s: (s.priority, s.arrival_s, s.row))
            else:
                victim = self.running[-1]
            self.preempt(victim, batch)
            if victim is seq:
                return False
        return True

    def preempt(self, victim: Seq, batch: dict) -> None:
        for entry in [each for each in batch["rows"] if each["seq"] is victim]:
            batch["rows"].remove(entry)
            self.left += entry["tokens"] + self.slots
        self.drop(victim)
        victim.epoch += 1
        victim.kv = victim.holders = victim.drafts = 0
        self.waiting.insert(0, victim)
        batch["preempted"].append(victim)

    def admit(self, batch: dict, threshold: int) -> None:
        self.begin_admissions(batch)
        while self.waiting and self.left > self.slots and len(self.running) < self.seats:
            seq = self.head()
            seq.target = self.known_tokens(seq)
            if not self.admit_one(seq, self.look(seq), batch, threshold):
                break

    def begin_admissions(self, batch: dict) -> None:
        prefills = any(entry["prefills"] for entry in batch["rows"])
        self.pads = not self.drafting.by_sequences and not prefills
        self.others = bool(batch["rows"])

    def first_chunk(self, seq: Seq, past: int, threshold: int) -> tuple[int, bool]:
        """Tokens of the step in which it begins, and whether rows of drafts are among them."""
        room, tokens, k = self.left - self.slots, seq.target - past, self.drafting.tokens
        padded = tokens == 1 and self.pads and (self.others or past > 0)
        padded = padded and past + 2 + k <= self.max_model_len
        if padded and tokens + k > room:
            return 0, False
        return min(tokens + k * padded, threshold, room), padded

    def admit_one(self, seq: Seq, past: int, batch: dict, threshold: int) -> bool:
        tokens, padded = self.first_chunk(seq, past, threshold)
        most = min(past + tokens + self.lookahead, self.max_model_len)
        if not tokens or not self.enter(seq, past, most, max(most, seq.target)):
            return False
        seq.holders = seq.drafts = 0
        assert self.grow(seq, most, past)
        self.put(batch, seq, tokens, 0, padded)
        batch["rows"][-1]["admitted"] = not seq.preemptions
        return True

    def look(self, seq: Seq) -> int:
        """How many of its tokens others have left."""
        return len(self.find(seq)) * self.size

    def enter(self, seq: Seq, past: int, tokens: int, whole: int) -> bool:
        """Hold what was found, if there are blocks for so many tokens, and for all of them."""
        found = self.find(seq)
        must_fit = whole if self.whole_fits else tokens
        idle = [block for block in found if not block.holders]
        watermark = self.watermark if self.running else 0
        if self.free - len(idle) - (self.need(must_fit) - len(found)) < watermark:
            return False
        for block in found:
            block.holders += 1
        for block in idle:
            self.queue.remove(block)
        seq.held, seq.kv = found, past
        self.waiting.remove(seq)
        self.running.append(seq)
        return True

    def after_schedule(self, entry: dict, requests: int) -> None:
        seq = entry["seq"]
        seq.kv += entry["tokens"]
        entry["samples"] = seq.kv >= seq.target
        if not entry["samples"]:
            return
        scheduled = self.drafting.tokens if entry["padded"] else entry["drafted"]
        if self.ahead:
            seq.holders += 1 + scheduled
            seq.drafts = self.drafting.proposed(requests)
