"""Replicas that share a store: what each reads from it, and what it writes to it.

They share nothing with ``sim`` but the seconds of a chunk on either link.
"""

from hardware.engines.versions import version_key
from sim.settings.pools import Pool
from tests.reference_host import Kept, Use
from tests.reference_loading import LoadingEngine
from tests.reference_sequence import Seq
from tests.reference_shared_store import Job, User
from tests.reference_tiers import TierEngine


class StoreEngine(User, LoadingEngine):
    """One whose GPU reads from it and writes to it."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.uses_store(pool)
        told, shared = pool.engine.kv_connector_extra_config, pool.store
        assert shared is not None
        self.chunk = told.blocks_per_chunk * self.size
        self.prompts_only = told.offload_prompt_only
        self.least = max(1, shared.min_load_tokens)
        self.offered: dict[Seq, int] = {}
        self.next_writes: list[tuple[Seq, list[tuple]]] = []
        self.writes: dict[Seq, int] = {}

    def prepare(self, now_s: float) -> dict | None:
        for seq, texts in self.next_writes:
            self.store.send(self, "write", seq, texts, now_s)
        self.next_writes = []
        return super().prepare(now_s)

    def ended(self, job: Job) -> None:
        seq = job.seq
        if job.way == "read":
            self.told.append(seq)
            return
        self.writes[seq] -= 1
        if not self.writes[seq]:
            del self.writes[seq]
            if seq in self.kept:
                self.told.append(seq)

    def text_of(self, seq: Seq, place: int) -> tuple:
        return tuple(seq.text[: (place + 1) * self.chunk])

    def matched(self, seq: Seq, past: int) -> int:
        self.offered[seq] = end = 0
        while (end + 1) * self.chunk < seq.target:
            held = self.store.chunks.get(self.text_of(seq, end))
            if held is None or not held.written:
                break
            end += 1
        more = end * self.chunk - past
        return more if more >= self.least else 0

    def fetch(self, seq: Seq, past: int, more: int) -> None:
        places = range(past // self.chunk, (past + more) // self.chunk)
        texts = [self.text_of(seq, place) for place in places]
        for text in texts:
            self.store.chunks[text].readers += 1
        self.read += len(texts)
        if not seq.preemptions and not seq.status:
            seq.store_tokens = more
        self.store.send(self, "read", seq, texts, self.now_s)

    def form_chunked(self, batch: dict) -> None:
        super().form_chunked(batch)
        for seq, tokens, past in batch["chunks"]:
            self.offer(seq, past + tokens)
        if not self.prompts_only:
            for seq in batch["decodes"]:
                self.offer(seq, self.known_in_step(seq))

    def offer(self, seq: Seq, computed: int) -> None:
        if self.prompts_only:
            computed = min(computed, seq.prompt)
        first, end = self.offered[seq], computed // self.chunk
        if end > first:
            texts = [self.text_of(seq, place) for place in range(first, end)]
            self.next_writes.append((seq, texts))
            self.writes[seq] = self.writes.get(seq, 0) + 1
            self.offered[seq] = end

    def leave(self, seq: Seq) -> None:
        seq.lent = seq in self.writes
        super().leave(seq)

    def cut_off(self, seq: Seq) -> None:
        seq.lent = seq in self.writes
        super().cut_off(seq)


class HostStoreEngine(User, TierEngine):
    """One whose host does, for its GPU."""

    goes_on = True

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.uses_store(pool)
        assert pool.store is not None
        self.writes_back = pool.store.writes_back
        self.ends_last = version_key(pool.engine.version) >= (0, 33)
        self.over_there: list[Job] = []
        self.promotions: dict[Seq, list[tuple]] = {}

    def prepare(self, now_s: float) -> dict | None:
        batch = super().prepare(now_s)
        self.polled &= batch is not None
        while batch is None and (
            self.promoted or self.over_there
        ):  # who can compute nothing plans again at once
            batch = super().prepare(now_s)
            self.polled &= batch is not None
        return batch

    promoted = False  # in the last plan

    def ended(self, job: Job) -> None:
        self.over_there.append(job)

    def come(self, now_s: float) -> None:
        self.now_s = now_s
        super().come(now_s)

    polled = False  # in this step

    def poll(self) -> None:
        if self.polled:
            return
        self.polled = True
        over, self.over_there = self.over_there, []
        for job in over:
            for kept in job.pinned:
                kept.readers -= 1
            for text in job.texts if job.way == "read" else ():
                kept = self.host.get(text)
                assert kept is not None
                kept.written = True
                if job.seq in self.uses:
                    kept.readers = 1
                    self.uses[job.seq].promoted.append(kept)

    def settle(self) -> bool:
        over = self.over
        news = super().settle()
        for seq, chunks, brings in over:
            if not brings and not self.writes_back:
                for kept in chunks:
                    kept.readers += 1
                texts = [kept.text for kept in chunks]
                self.store.send(self, "write", seq, texts, self.now_s, chunks)
        return news

    def promote(self, seq: Seq, use: Use, place: int) -> Kept | None:
        text = self.text_of(seq, place)
        there = self.store.chunks.get(text)
        if there is None or not there.written:
            return None
        if place not in use.missed:
            self.host.miss(text)
        use.missed.add(place)
        self.host.see(use, {place: text})
        use.seen.add(place)
        there.readers += 1
        if self.host.count == self.host.room:
            if not self.host.make_room(1, {text}):
                there.readers -= 1
                return None
            self.makes_room()
        self.host.insert(text, self.host.rank_of(use, place))
        use.inserted.add(place)
        use.from_store.add(place)
        self.promotions.setdefault(seq, []).append(text)
        return self.host.get(text)

    def makes_room(self) -> None:
        texts = [text for text in self.host.made_room if text not in self.store.chunks]
        if self.writes_back and texts:
            self.store.send(self, "write", None, texts, self.now_s)

    def fetch(self, seq: Seq, past: int, more: int) -> None:
        super().fetch(seq, past, more)
        self.served(seq)
        places = range(past // self.chunk, (past + more) // self.chunk)
        tokens = sum(place in self.uses[seq].from_store for place in places) * self.chunk
        if not seq.preemptions and not seq.status:
            seq.store_tokens = min(tokens, more, seq.target - 1 - past)

    def served(self, seq: Seq) -> None:
        if seq in self.uses:
            for kept in self.uses[seq].promoted:
                kept.readers -= 1
            self.uses[seq].promoted = []

    def before_offers(self, batch: dict) -> None:
        self.promoted = bool(self.promotions)
        if not self.ends_last:
            self.end_of_step()
        for seq, _, _ in batch["chunks"]:
            self.served(seq)

    def after_offers(self) -> None:
        if self.ends_last:
            self.end_of_step()

    def keep(self, seq: Seq, use: Use, end: int) -> bool:
        self.polled &= not self.ends_last
        return super().keep(seq, use, end)

    def end_of_step(self) -> None:
        self.poll()
        self.polled = False
        for seq, texts in self.promotions.items():
            self.read += len(texts)
            self.store.send(self, "read", seq, texts, self.now_s)
        self.promotions = {}

    def before_parting(self, parting: list[Seq]) -> None:
        for seq in parting:
            self.served(seq)
