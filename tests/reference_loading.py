"""Requests that wait aside for KV from elsewhere, and sit down when it is there."""

from tests.reference_engine import Engine
from tests.reference_sequence import Seq


class LoadingEngine(Engine):
    """One replica whose requests wait aside for KV from elsewhere."""

    def matched(self, seq: Seq, past: int) -> int | None:
        """Tokens behind those that the GPU has; None: ask again."""
        raise NotImplementedError

    def fetch(self, seq: Seq, past: int, more: int) -> None:
        """Its blocks are taken: bring them."""
        raise NotImplementedError

    def start_prompts(self, batch: dict, left, threshold: int) -> None:
        ready = [seq for seq in self.parked if seq.loads == "ready"]
        if self.order == "priority":
            ready.sort(key=lambda s: (s.priority, s.arrival_s, s.row))
        for seq in ready:
            most = min(left(), threshold)
            if most <= 0 or len(self.running) == self.seats:
                return
            if not self.seat_loaded(seq, most, batch):
                return
        passed: list[Seq] = []
        while self.waiting and len(self.running) < self.seats and left() > 0:
            seq = self.head()
            past = self.here(seq)
            more = self.matched(seq, past)
            if more is None:
                self.waiting.remove(seq)
                passed.append(seq)
            elif (more and not self.bring(seq, past, more, batch)) or (
                not more and not self.seat(seq, min(left(), threshold), batch)
            ):
                break
        self.waiting[:0] = passed

    def here(self, seq: Seq) -> int:
        """Tokens that the GPU has."""
        return len(self.find(seq)) * self.size

    def still_needed(self, batch: dict) -> int:
        """Blocks that others want whose prompts are under way, before anybody may load."""
        return sum(
            self.need(other.target) - len(other.held)
            for other in self.running + self.parked
            if other.kv < other.target and other.loads != "cancelled"
        )

    def bring(self, seq: Seq, past: int, more: int, batch: dict) -> bool:
        found = self.find(seq)
        idle = [block for block in found if not block.holders]
        free = self.free - len(idle) - (self.watermark if self.running else 0)
        if self.whole_fits and self.need(seq.target) - len(found) > free:
            return False
        if self.need(past + more) - len(found) + self.still_needed(batch) > free:
            return False
        for block in found:
            block.holders += 1
        for block in idle:
            self.queue.remove(block)
        seq.held, seq.kv, seq.loads = found, past, "loading"
        if not seq.preemptions and not seq.status:
            seq.cached = past
        assert self.grow(seq, past + more, past)
        self.waiting.remove(seq)
        self.parked.append(seq)
        seq.brought_to, seq.loading_s = past + more, seq.loading_s - self.now_s
        self.fetch(seq, past, more)
        return True

    def seat_loaded(self, seq: Seq, most: int, batch: dict) -> bool:
        self.name(seq, seq.brought_to)
        seq.kv = seq.brought_to
        past = min(seq.brought_to, seq.target - 1)
        tokens = min(seq.target - past, most)
        wanted = seq.target if self.whole_fits else past + tokens
        after = self.free - max(0, self.need(wanted) - len(seq.held))
        if after < (self.watermark if self.running else 0):
            return False
        self.seat_with(seq, tokens, past, batch)
        return True

    def seat_with(self, seq: Seq, tokens: int, past: int, batch: dict) -> None:
        """Its KV is there: it runs, and this step computes tokens of what is left."""
        self.parked.remove(seq)
        seq.loads, seq.kv = "", past
        if not seq.preemptions and not seq.status:
            seq.brought = past - seq.cached
        self.running.append(seq)
        assert self.grow(seq, past + tokens, past)
        self.name(seq, past + tokens)
        batch["chunks"].append((seq, tokens, past))

    def learn(self) -> None:
        for seq in self.told:
            if seq.loads == "loading":
                seq.loading_s += self.now_s
        super().learn()
