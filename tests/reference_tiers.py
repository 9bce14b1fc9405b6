"""The reference simulator of KV in the host's memory: texts written out, lists, and every transfer.

It shares nothing with ``sim``. Directions of the link do not slow each other here.
"""

from math import inf

from hardware.engines.versions import version_key
from sim.settings.pools import Pool
from tests.reference_host import Host, Kept, Use
from tests.reference_loading import LoadingEngine
from tests.reference_sequence import Seq


class TierEngine(LoadingEngine):
    """One replica with a host."""

    goes_on = False  # planning, when nobody is left

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        told, rates = pool.engine.kv_connector_extra_config, pool.host_rates
        assert rates.together == 1.0
        self.chunk = told.blocks_per_chunk * self.size
        self.block_s = pool.ledger.block_bytes / rates.bytes_per_s
        self.latency_s = rates.latency_s
        self.threshold_offers = told.store_threshold
        self.most_counted = told.max_tracker_size
        self.prompts_only = told.offload_prompt_only
        self.offers_again = version_key(pool.engine.version) >= (0, 33)
        ranked = told.eviction_policy == "lru" and self.offers_again
        self.host = Host(pool.host.chunks, "ranked" if ranked else told.eviction_policy)
        self.uses: dict[Seq, Use] = {}
        self.coming: list[tuple[float, int, Seq, list[Kept]]] = []
        self.going: list[tuple[float, int, Seq, list[Kept]]] = []
        self.free_s = {"in": 0.0, "out": 0.0}
        self.jobs = 0
        self.next_copies: list[tuple[Seq, list[Kept], int]] = []
        self.parting: list[Seq] = []
        self.being_brought: list[Kept] = []
        self.over: list[tuple[Seq, list[Kept], bool]] = []  # and nobody knows it yet

    # --- transfers
    def prepare(self, now_s: float) -> dict | None:
        self.come(now_s)
        if not self.ahead:
            self.settle()
        batch = super().prepare(now_s)
        if batch is None and (self.goes_on or self.parked or self.waiting):
            self.deadline_s = min([end_s for end_s, *_ in self.coming + self.going], default=inf)
        return batch

    def come(self, now_s: float) -> None:
        for end_s, _, seq, chunks in sorted(self.coming + self.going, key=lambda job: job[:2]):
            if end_s > now_s:
                continue
            brings = any(job[2] is seq and job[3] is chunks for job in self.coming)
            self.over.append((seq, chunks, brings))
            if brings:
                self.told.append(seq)
        self.coming = [job for job in self.coming if job[0] > now_s]
        self.going = [job for job in self.going if job[0] > now_s]
        if self.goes_on or self.has_ended or self.parked or self.waiting or self.arrived:
            self.again(now_s)

    def again(self, now_s: float) -> None:
        for seq, chunks, blocks in self.next_copies:
            self.going.append(self.job("out", now_s, blocks, seq, chunks))
        self.next_copies = []

    def settle(self) -> bool:
        """It is known what is over."""
        over, self.over = self.over, []
        for seq, chunks, brings in over:
            for kept in chunks:
                kept.written = True
                kept.readers -= brings
            self.being_brought = [kept for kept in self.being_brought if kept not in chunks]
            if seq in self.uses:
                self.uses[seq].under_way -= 1
        return bool(over)

    def catch_up(self, batch: dict | None) -> bool:
        news = self.settle()
        return super().catch_up(batch) or news

    def job(self, way: str, now_s: float, blocks: int, seq: Seq, chunks: list[Kept]) -> tuple:
        work_s = self.latency_s + blocks * self.block_s
        self.free_s[way] = max(self.free_s[way], now_s) + work_s
        self.jobs += 1
        return self.free_s[way], self.jobs, seq, chunks

    def text_of(self, seq: Seq, place: int) -> tuple:
        return tuple(seq.text[: (place + 1) * self.chunk])

    # --- who begins
    def matched(self, seq: Seq, past: int) -> int | None:
        """Tokens that the host has behind those that the GPU has; None: ask again."""
        use = self.uses.setdefault(seq, Use())
        if self.offers_again:
            use.offered = 0
        if use.under_way:
            return None
        whole = seq.target // self.chunk
        if whole * self.chunk - past < self.chunk:
            return 0
        self.poll()
        first = end = past // self.chunk
        found: list[Kept] = []
        while end < whole:
            kept = self.host.get(self.text_of(seq, end)) or self.promote(seq, use, end)
            if kept is None:
                break
            found.append(kept)
            end += 1
        if not all(kept.written for kept in found):
            return None
        found, end = self.sure(found, end)
        if end <= first or end * self.chunk - past < self.chunk:
            return 0
        if any(kept in self.being_brought for kept in found):
            return None
        return end * self.chunk - past

    def sure(self, found: list[Kept], end: int) -> tuple[list[Kept], int]:
        """What of it is brought, and where that ends."""
        return found, end

    def poll(self) -> None:
        """Look what transfers of a tier below have ended."""

    def promote(self, seq: Seq, use: Use, place: int) -> Kept | None:
        """A chunk that comes from a tier below."""
        return None

    def fetch(self, seq: Seq, past: int, more: int) -> None:
        use, chunks = self.uses[seq], []
        places = range(past // self.chunk, (past + more) // self.chunk)
        self.host.see(use, {place: self.text_of(seq, place) for place in places})
        for place in places:
            kept = self.host.get(self.text_of(seq, place))
            assert kept is not None
            kept.readers += 1
            chunks.append(kept)
            use.seen.add(place)
            if place not in use.inserted:
                use.reused.add(place)
        use.offered = (past + more) // self.chunk
        use.under_way += 1
        self.being_brought += chunks
        self.coming.append(self.job("in", self.now_s, more // self.size, seq, chunks))

    # --- what is kept
    def form_chunked(self, batch: dict) -> None:
        super().form_chunked(batch)
        self.before_offers(batch)
        computed = {seq: past + tokens for seq, tokens, past in batch["chunks"]}
        for seq in batch["decodes"]:
            computed[seq] = self.known_in_step(seq)
        self.offer_all(computed)

    def offer_all(self, computed: dict[Seq, int]) -> None:
        """Of those in the step, with so many tokens then, and of those who have left."""
        for seq in self.running:
            if seq in computed:
                self.offer(seq, computed[seq])
        parting = sorted(self.parting, key=lambda seq: seq.row)
        self.before_parting(parting)
        for seq in parting:
            self.offer(seq, self.last_tokens(seq))
        for seq in parting:
            use = self.uses.pop(seq)
            for place in sorted(use.seen, reverse=True):
                reused, inserted = place in use.reused, place in use.inserted
                self.host.use(self.text_of(seq, place), reused, inserted)
        self.parting = []
        self.after_offers()

    def before_offers(self, batch: dict) -> None:
        """A step was formed."""

    def after_offers(self) -> None:
        """All is offered that is to be."""

    def before_parting(self, parting: list[Seq]) -> None:
        """Requests have left."""

    def makes_room(self) -> None:
        """Chunks have made room in the host."""

    def last_tokens(self, seq: Seq) -> int:
        """Of one that has left."""
        return seq.kv

    def offer(self, seq: Seq, computed: int) -> None:
        if self.prompts_only:
            computed = min(computed, seq.prompt)
        use, end = self.uses.setdefault(seq, Use()), self.chunks_of(seq, computed)
        if end > use.offered and self.keep(seq, use, end):
            use.offered = end

    def keep(self, seq: Seq, use: Use, end: int) -> bool:
        self.poll()
        places = self.to_offer(seq, use, end)
        texts = {place: self.text_of(seq, place) for place in places}
        if self.threshold_offers >= 2:
            self.count([texts[place] for place in places])
        wanted = []
        seen = {}
        for place in places:
            kept = self.host.get(texts[place])
            if kept is not None and kept.written:
                seen[place] = texts[place]
            if kept is None:
                if self.threshold_offers < 2 or (
                    self.host.offers.get(texts[place], 0) >= self.threshold_offers
                ):
                    wanted.append(place)
                    seen[place] = texts[place]
            elif kept.written and place not in use.inserted:
                use.reused.add(place)
        for place in reversed(wanted):
            if place not in use.missed:
                self.host.miss(texts[place])
        use.missed |= set(wanted)
        self.host.see(use, seen)
        use.seen |= set(seen)
        if not wanted:
            return True
        lacking = len(wanted) - (self.host.room - self.host.count)
        if lacking > 0:
            if not self.host.make_room(lacking, set(texts.values())):
                return False
            self.makes_room()
        for place in wanted:
            self.host.insert(texts[place], self.host.rank_of(use, place))
            use.inserted.add(place)
        chunks = [self.host.get(texts[place]) for place in wanted]
        self.next_copies.append((seq, chunks, len(wanted) * (self.chunk // self.size)))
        use.under_way += 1
        return True

    def chunks_of(self, seq: Seq, computed: int) -> int:
        """Chunks of so many tokens that are as they stay."""
        return computed // self.chunk

    def to_offer(self, seq: Seq, use: Use, end: int) -> list[int]:
        """Places of the first chunks of its text that are to be kept."""
        return list(range(use.offered, end))

    def count(self, texts: list[tuple]) -> None:
        offers = self.host.offers
        fresh = [text for text in texts if text not in offers]
        for text in texts:
            if text in offers:
                offers.move_to_end(text)
                offers[text] += 1
        others = len(offers) - (len(texts) - len(fresh))
        for text in fresh:
            if len(offers) >= self.most_counted:
                if not others:
                    continue
                offers.popitem(last=False)
                others -= 1
            offers[text] = 1

    # --- who leaves
    def parts(self, seq: Seq) -> None:
        if seq in self.uses and seq not in self.parting:
            self.parting.append(seq)

    def leave(self, seq: Seq) -> None:
        super().leave(seq)
        self.parts(seq)

    def cut_off(self, seq: Seq) -> None:
        lent = seq.lent
        super().cut_off(seq)
        if not lent:
            self.parts(seq)

    def cancel(self, seq: Seq) -> None:
        super().cancel(seq)
        self.parts(seq)

    def forget(self, seq: Seq) -> None:
        super().forget(seq)
        self.parts(seq)

    def drop_from(self, batch: dict | None, seq: Seq) -> None:
        runs = seq in self.running and not seq.over
        super().drop_from(batch, seq)
        if runs:
            self.parts(seq)
