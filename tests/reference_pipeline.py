"""The slow simulator's engine with pipeline stages: vLLM's engine core, written out.

Every request knows the steps under way that it is in; every stage knows when it is free.
"""

import numpy as np

from sim.settings.pools import Pool
from tests.reference_engine import Engine
from tests.reference_sequence import Seq


class PipelineEngine(Engine):
    """One replica; its ``step`` is the oldest one under way, for which it waits."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.ahead = False  # blocks and who has ended are known at once
        cost = pool.pipeline
        self.rules = cost.rules
        self.stages = list(zip(cost.prices, cost.places, strict=True))
        gpu, gpus = pool.gpu, pool.tensor_parallel_size * pool.pipeline_parallel_size
        over = gpus > gpu.gpus_per_server
        hop_s = gpu.network_latency_s if over else gpu.link_latency_s
        self.return_s = hop_s + pool.calibration.collective_overhead_s
        self.first_s = pool.engine.first_request_s
        self.free_at = [0.0] * len(self.stages)
        self.lines: list[dict | None] = []  # the queue of batches, the oldest first
        self.history: list[dict | None] = []  # every step that was ever planned
        self.last_end_s = 0.0
        self.left_since = False  # whether somebody has left since a step was planned

    # --- what a request wants
    def mine(self, seq: Seq) -> list[dict]:
        """Steps under way with it, since it last got its blocks."""
        return [s for s in self.lines if s is not None and s["who"].get(seq) == seq.epoch]

    def wants(self, seq: Seq) -> int:
        known = seq.prompt + len(seq.token_s)
        coming = 0
        if self.rules.spacing:
            coming = sum(seq in step["brings"] for step in self.mine(seq))
            if coming and seq.kv + 2 - coming >= seq.prompt + seq.output:
                return 0
            before = self.history[max(0, len(self.history) - self.rules.spacing + 1) :]
            if any(step is not None and seq in step["brings"] for step in before):
                return 0
        return known + coming - seq.kv

    # --- planning
    def put(self, batch: dict, seq: Seq, tokens: int) -> None:
        past, known = seq.kv, seq.prompt + len(seq.token_s)
        if past < seq.target:
            batch["chunks"].append((seq, tokens, past))
        else:
            batch["decodes"].append((seq, past + 1))
        if past + tokens >= seq.target:
            batch["brings"].append(seq)
        batch["who"][seq] = seq.epoch
        seq.kv = past + tokens
        self.name(seq, min(seq.kv, known))

    def budget_left(self, batch: dict) -> int:
        return self.budget - len(batch["decodes"]) - sum(chunk for _, chunk, _ in batch["chunks"])

    def plan(self, now_s: float) -> dict | None:
        batch: dict = {"chunks": [], "decodes": [], "brings": [], "who": {}, "preempted": []}
        alone = len(self.running) + len(self.waiting) == 1 and not self.limits_alone
        threshold = self.budget if alone else self.threshold
        for seq in list(self.running):
            if self.budget_left(batch) <= 0:
                break
            if seq not in self.running:
                continue
            tokens = min(self.wants(seq), threshold, self.budget_left(batch))
            if not tokens:
                continue
            while seq in self.running and not self.grow(seq, seq.kv + tokens, seq.kv):
                self.throw_one_out(batch, now_s)
            if seq not in self.running:
                if self.serves_behind_victim:
                    continue
                break
            self.put(batch, seq, tokens)
        if not batch["preempted"]:
            self.start(batch, threshold)
        self.left = len(self.waiting)
        return batch if batch["chunks"] or batch["decodes"] else None

    def start(self, batch: dict, threshold: int) -> None:
        passed: list[Seq] = []
        while self.budget_left(batch) > 0 and len(self.running) < self.seats:
            candidates = [seq for seq in self.waiting if seq not in passed]
            if not candidates:
                break
            whole, self.waiting = self.waiting, candidates
            seq = self.head()
            self.waiting = whole
            if any(step is not None and seq in step["who"] for step in self.lines):
                passed.append(seq)
                continue
            attempt: dict = {"chunks": []}
            if not self.seat(seq, min(self.budget_left(batch), threshold), attempt):
                break
            ((_, tokens, past),) = attempt["chunks"]
            self.put(batch, seq, tokens)
            assert seq.kv == past + tokens

    def throw_one_out(self, batch: dict, now_s: float) -> None:
        victim = self.running[-1]
        if self.order == "priority":
            victim = max(self.running, key=lambda s: (s.priority, s.arrival_s, s.row))
        coming = sum(victim in step["brings"] for step in self.mine(victim))
        ends = len(victim.token_s) + coming >= victim.output
        batch["chunks"] = [each for each in batch["chunks"] if each[0] is not victim]
        batch["decodes"] = [each for each in batch["decodes"] if each[0] is not victim]
        batch["brings"] = [each for each in batch["brings"] if each is not victim]
        batch["who"].pop(victim, None)
        self.drop(victim)
        victim.epoch += 1
        victim.kv, victim.target = 0, victim.prompt + len(victim.token_s)
        victim.preemptions += not victim.status and not ends
        self.waiting.insert(0, victim)
        batch["preempted"].append(victim)

    # --- the core
    def begin(self, now_s: float, idle: bool) -> None:
        rules, empty = self.rules, 0
        while True:
            if self.has_requests():
                self.left_since = False
                batch = self.plan(now_s)
                if batch is not None:
                    self.compute(batch, now_s)
                self.lines.append(batch)
                self.history.append(batch)
                empty = 0 if batch is not None else empty + 1
                assert empty < 1000
                if len(self.lines) < rules.batches and (
                    batch is not None or self.has_requests()
                    if rules.fills
                    else batch is not None and self.lines[0] is not None
                ):
                    continue
            elif not self.lines:
                self.step = None
                return
            if self.lines[0] is None:
                self.lines.pop(0)
                continue
            self.step = self.lines[0]
            return

    def has_requests(self) -> bool:
        return bool(self.running or self.waiting or self.left_since)

    def compute(self, batch: dict, now_s: float) -> None:
        others = [step for step in self.lines if step is not None]
        at_s = now_s if others else now_s + self.price.idle_start_s
        at_s += self.first_s
        self.first_s = 0.0
        if self.rules.spacing:
            planned = self.history
            if self.rules.spacing == 1:
                planned = [step for step in self.history if step is not None]
            before = planned[-self.rules.spacing] if len(planned) >= self.rules.spacing else None
            if before is not None and before["tells"]:
                at_s = max(at_s, before["end_s"] + self.return_s)
        batch["sizes"] = [(chunk, past) for _, chunk, past in batch["chunks"]]
        lengths = [length for _, length in batch["decodes"]]
        batch["reads"] = [sum(min(length, w) for length in lengths) for w in self.windows]
        batch["start_s"] = max(at_s, self.free_at[0])
        for place, (prices, classes) in enumerate(self.stages):
            begun_s = max(at_s, self.free_at[place])
            own = [batch["reads"][each] for each in classes]
            at_s = begun_s + prices.step_s(len(lengths), own, batch["sizes"])
            self.free_at[place] = at_s
        batch["end_s"] = at_s
        decoding = [seq for seq, _ in batch["decodes"]]
        batch["tells"] = any(
            seq in decoding or self.rules.spacing == 1 or len(seq.token_s) + 1 < seq.output
            for seq in batch["brings"]
        )
        for seq, _, _ in batch["chunks"]:
            if np.isnan(seq.first_scheduled_s) and not seq.status:
                seq.first_scheduled_s = batch["start_s"]
            if not seq.token_s:
                seq.computed_s += at_s - max(batch["start_s"], getattr(seq, "until_s", 0.0))
                seq.until_s = at_s

    def end(self) -> list[Seq]:
        batch, self.step = self.lines.pop(0), None
        end_s = batch["end_s"]
        for seq in self.unwanted:
            self.abort(seq)
        self.unwanted = []
        self.add_up_reads(batch)
        ended: list[Seq] = []
        live = [seq for seq, _ in batch["decodes"] if not seq.over]
        wasted = len(batch["decodes"]) - len(live)
        of_prompts = [seq for seq, _, _ in batch["chunks"] if seq in batch["brings"]]
        for seq in [*live, *(seq for seq in of_prompts if not seq.over)]:
            seq.token_s.append(end_s)
            if batch["who"][seq] != seq.epoch:
                seq.target += 1  # it has lost its blocks since, and waits
            if len(seq.token_s) == seq.output:
                ended.append(seq)
            if self.rules.spacing and batch["who"][seq] == seq.epoch:
                coming = sum(seq in step["brings"] for step in self.mine(seq))
                self.name(seq, seq.kv - coming)
        for seq in [seq for seq in self.running if seq in ended]:
            self.drop(seq)
        for seq in ended:
            seq.over = self.left_since = True
            if seq in self.waiting:
                self.waiting.remove(seq)
        self.steps.append(
            (
                max(batch["start_s"], self.last_end_s), end_s, len(live), wasted,
                len(batch["chunks"]), sum(chunk for _, chunk, _ in batch["chunks"]),
            )
        )  # fmt: skip
        self.last_end_s = end_s
        return ended

    def abort(self, seq: Seq) -> None:
        seq.over = self.left_since = True
        if seq in self.waiting:
            self.waiting.remove(seq)
        elif seq in self.running:
            self.drop(seq)
