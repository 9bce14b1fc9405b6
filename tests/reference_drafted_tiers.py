"""The reference simulator of drafts with KV in the host's memory, where steps are not planned
ahead: texts written out, every chunk of them, every transfer."""

from math import inf

from sim.engine.drafts.drafting import Acceptance
from sim.settings.pools import Pool
from tests.draft_reference import DraftEngine
from tests.reference_host import Kept
from tests.reference_sequence import Seq
from tests.reference_tiers import TierEngine


class DraftTierEngine(DraftEngine, TierEngine):
    """One replica with drafts and a host."""

    def __init__(self, pool: Pool, acceptance: Acceptance) -> None:
        super().__init__(pool, acceptance)
        assert not self.ahead
        self.step_tokens = 1 + self.drafting.tokens + self.lookahead
        self.formed = False  # a step, at this instant
        self.unknown: dict[Seq, int] = {}  # tokens of one that was given up in the step that ended

    # --- a step
    def prepare(self, now_s: float) -> None:
        self.now_s, self.formed = now_s, False
        self.come(now_s)
        self.settle()
        self.learn()
        super().prepare(now_s)
        self.has_ended = False
        if self.step is None and (self.parked or self.waiting):
            self.deadline_s = min([job[0] for job in self.coming + self.going], default=inf)

    def form(self, now_s: float) -> dict | None:
        if self.formed:  # nothing came of the plan before: what it left to copy is copied now
            self.has_ended = True
            self.come(now_s)
        self.formed, self.deadline_s = True, inf
        batch = super().form(now_s)
        entries = [] if batch is None else batch["rows"]
        ends = {entry["seq"]: entry["past"] + entry["tokens"] for entry in entries}
        self.offer_all({seq: min(end, self.known_tokens(seq)) for seq, end in ends.items()})
        return batch

    def end(self) -> list[Seq]:
        ended = super().end()
        self.has_ended = True
        return ended

    def sample(self, entry: dict, end_s: float, proposed: int) -> list[Seq]:
        if entry["seq"] in self.unwanted:
            self.unknown[entry["seq"]] = self.known_tokens(entry["seq"])
        return super().sample(entry, end_s, proposed)

    # --- who begins
    def admit(self, batch: dict, threshold: int) -> None:
        self.begin_admissions(batch)
        self.loaded_now: list[Seq] = []
        ready = [seq for seq in self.parked if seq.loads == "ready"]
        if self.order == "priority":
            ready.sort(key=lambda s: (s.priority, s.arrival_s, s.row))
        for seq in ready:
            if self.left <= self.slots or len(self.running) == self.seats:
                return
            if not self.seat_with_drafts(seq, batch, threshold):
                return
        passed: list[Seq] = []
        while self.waiting and self.left > self.slots and len(self.running) < self.seats:
            seq = self.head()
            seq.target = self.known_tokens(seq)
            past = self.look(seq)
            more = self.matched(seq, past)
            if more is None:
                self.waiting.remove(seq)
                passed.append(seq)
            elif not (
                self.bring(seq, past, more, batch)
                if more
                else self.admit_one(seq, past, batch, threshold)
            ):
                break
        self.waiting[:0] = passed

    def seat_with_drafts(self, seq: Seq, batch: dict, threshold: int) -> bool:
        self.name(seq, seq.brought_to)
        seq.kv = seq.brought_to
        past = min(seq.brought_to, seq.target - 1)
        tokens, padded = self.first_chunk(seq, past, threshold)
        most = min(past + tokens + self.lookahead, self.max_model_len)
        whole = max(seq.target, most) if self.whole_fits else most
        after = self.free - max(0, self.need(whole) - len(seq.held))
        if not tokens or after < (self.watermark if self.running else 0):
            return False
        self.parked.remove(seq)
        self.running.append(seq)
        self.loaded_now.append(seq)
        seq.loads, seq.kv = "", past
        if not seq.preemptions and not seq.status:
            seq.brought = past - seq.cached
        seq.holders = seq.drafts = 0
        assert self.grow(seq, most, past)
        self.put(batch, seq, tokens, 0, padded)
        return True

    def still_needed(self, batch: dict) -> int:
        """The same, and blocks for a step with drafts: of each, and of who would load."""
        whole = [
            entry["seq"] for entry in batch["rows"]
            if "admitted" in entry and entry["past"] + entry["tokens"] >= entry["seq"].target
        ]  # fmt: skip
        others = [seq for seq in self.running if seq.kv < seq.target and seq not in whole]
        others += [seq for seq in self.parked if seq.loads != "cancelled"]
        wants = [self.need(seq.target + self.step_tokens) - len(seq.held) for seq in others]
        return self.need(self.step_tokens) + sum(max(0, want) for want in wants)

    def sure(self, found: list[Kept], end: int) -> tuple[list[Kept], int]:
        """The drafter reads what the target makes of the last chunk: it is computed again."""
        return (found[:-1], end - 1) if self.drafting.drops_block else (found, end)

    # --- what is kept
    def chunks_of(self, seq: Seq, computed: int) -> int:
        """The last chunk of an answer that goes on may be written once more, after a rejection."""
        goes_on = computed > seq.prompt and seq not in self.parting
        return computed // self.chunk - (goes_on and self.drafting.drops_block)

    def last_tokens(self, seq: Seq) -> int:
        if seq in self.unknown:
            return self.unknown.pop(seq)
        return min(seq.kv, self.known_tokens(seq) - (len(seq.token_s) == seq.output))

    # --- who leaves
    def leave(self, seq: Seq) -> None:
        super().leave(seq)
        self.parts(seq)

    def abort(self, seq: Seq) -> None:
        if seq in self.parked:
            self.cancel(seq)
        elif seq in self.waiting:
            self.waiting.remove(seq)
            self.forget(seq)
        elif seq in self.running:
            self.leave(seq)
