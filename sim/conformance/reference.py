"""The built-in policies, slow and obvious: every sequence is looked at in every step.

It has no prefix cache and does not plan ahead, and shares nothing with ``sim.engine`` but words.
"""

from dataclasses import field
from math import ceil, inf

from model.dataclass import dataclass
from sim.conformance.cases import TICK_S, Case
from sim.conformance.drive import Step

KNOWN = ("static", "prefill_first", "chunked_prefill")
"""Policies, by the names of their rows."""


@dataclass(eq=False, slots=True)
class Seq:
    """A request in flight."""

    number: int
    arrival: int
    prompt: int
    output: int
    priority: int
    leaves: float
    generated: int = 0
    kv: int = 0
    target: int = 0
    blocks: int = 0
    joined: int = 0
    """When it began to decode."""
    ended: int = 0
    """When it became a row of padding; 0: it has not."""

    @property
    def decodes(self) -> bool:
        """Whether the next token is one of its answer."""
        return self.kv >= self.target and not self.ended


@dataclass(slots=True)
class Plan:
    """What a step is to compute."""

    decodes: list[Seq] = field(default_factory=list)
    chunks: list[tuple[Seq, int, int]] = field(default_factory=list)
    preempted: list[Seq] = field(default_factory=list)


class Reference:
    """One engine of a built-in policy."""

    def __init__(self, policy: str, case: Case) -> None:
        self.policy, self.case, self.told = policy, case, case.settings
        self.free = case.num_blocks
        self.waiting: list[Seq] = []
        self.running: list[Seq] = []
        self.seats_left = 0
        self.wake: float = 0.0
        self.count = 0

    def log(self) -> list[Step]:
        """Serve the case to its end, and return every step."""
        coming = [
            Seq(
                number, row.arrival, row.prompt, row.output, row.priority,
                inf if row.leaves is None else row.leaves, target=row.prompt,
            )
            for number, row in enumerate(self.case.rows)
        ]  # fmt: skip
        steps: list[Step] = []
        tick = 0
        while True:
            self._arrive(coming, tick)
            for seq in self._given_up(tick):
                self._drop(seq, set())
            plan = self._form(tick)
            if plan is None:
                times = [seq.arrival for seq in coming[:1]] + [self.wake]
                then = min([*times, *(seq.leaves for seq in self._everybody())])
                if then == inf:
                    return steps
                tick = int(then)
                continue
            padding = sum(1 for seq in self.running if seq.ended) if plan.decodes else 0
            tick += 1
            self._arrive(coming, tick)
            ended = self._end(plan, self._given_up(tick))
            chunks = tuple((seq.number, tokens, past) for seq, tokens, past in plan.chunks)
            steps.append(
                Step(
                    tick - 1, len(plan.decodes), padding, chunks,
                    tuple(seq.number for seq in plan.preempted),
                    tuple(sorted(seq.number for seq in ended)),
                )
            )  # fmt: skip

    def _everybody(self) -> list[Seq]:
        return [seq for seq in self.waiting + self.running if not seq.ended]

    def _arrive(self, coming: list[Seq], tick: int) -> None:
        while coming and coming[0].arrival <= tick:
            self.waiting.append(coming.pop(0))

    def _given_up(self, tick: int) -> list[Seq]:
        return [seq for seq in self._everybody() if seq.leaves <= tick]

    def _need(self, tokens: int) -> int:
        return -(-tokens // self.case.block_size)

    def _grow(self, seq: Seq, tokens: int) -> bool:
        more = max(0, self._need(tokens) - seq.blocks)
        if more > self.free:
            return False
        self.free -= more
        seq.blocks += more
        return True

    def _release(self, seq: Seq) -> None:
        self.running.remove(seq)
        self.free += seq.blocks
        seq.blocks = 0

    def _rank(self, seq: Seq) -> tuple[int, int, int]:
        first = {"shortest_prompt": seq.prompt, "priority": seq.priority}[self.case.order]
        return first, seq.arrival, seq.number

    def _head(self) -> Seq:
        return self.waiting[0] if self.case.order == "fcfs" else min(self.waiting, key=self._rank)

    def _throw_out_one(self, plan: Plan) -> None:
        padding = [seq for seq in self.running if seq.ended]
        if padding:
            self._release(max(padding, key=lambda seq: seq.ended))
            return
        by_priority = self.case.order == "priority"
        victim = max(self.running, key=self._rank) if by_priority else self.running[-1]
        self._release(victim)
        plan.chunks = [chunk for chunk in plan.chunks if chunk[0] is not victim]
        plan.decodes = [seq for seq in plan.decodes if seq is not victim]
        victim.kv, victim.target = 0, victim.prompt + victim.generated
        self.waiting.insert(0, victim)
        plan.preempted.append(victim)

    def _seat(self, seq: Seq, most: int, plan: Plan) -> bool:
        """Admit a request with up to ``most`` tokens of its prompt, if there are blocks."""
        chunked = self.policy == "chunked_prefill"
        tokens = min(seq.target, most)
        whole = chunked and self.told.scheduler_reserve_full_isl
        watermark = 0 if chunked and not self.running else self.told.watermark_blocks
        if self.free - self._need(seq.target if whole else tokens) < watermark:
            return False
        self.waiting.remove(seq)
        self.running.append(seq)
        self._grow(seq, tokens)
        plan.chunks.append((seq, tokens, 0))
        return True

    def _form(self, tick: int) -> Plan | None:
        plan = Plan()
        self.wake = inf
        if self.policy == "chunked_prefill":
            self._chunked(plan)
            if plan.chunks or plan.decodes:
                return plan
            again = self._form(tick) if plan.preempted else None
            if again is not None:
                again.preempted = plan.preempted + again.preempted
            return again
        if self.policy == "static" and not self.running and not self._due(tick):
            return None
        seats = self.told.max_num_seqs - len(self.running)
        self._whole_prompts(plan, self.seats_left if self.policy == "static" else seats)
        self.seats_left = self.seats_left - len(plan.chunks) if plan.chunks else 0
        if plan.chunks:
            return plan
        if not any(seq.decodes for seq in self.running):
            for seq in list(self.running):
                self._release(seq)
            return self._form(tick) if self.waiting and self.policy == "static" else None
        self._all_decodes(plan)
        if not self.running:
            again = self._form(tick)
            assert again is not None
            again.preempted = plan.preempted + again.preempted
            return again
        return plan

    def _due(self, tick: int) -> bool:
        if not self.waiting:
            return False
        due = self._head().arrival + ceil(self.told.batch_timeout_s / TICK_S)
        if len(self.waiting) < self.told.max_num_seqs and tick < due:
            self.wake = due
            return False
        self.seats_left = min(len(self.waiting), self.told.max_num_seqs)
        return True

    def _whole_prompts(self, plan: Plan, most: int) -> None:
        tokens = 0
        while self.waiting and len(plan.chunks) < most:
            seq = self._head()
            if plan.chunks and tokens + seq.target > self.told.token_budget:
                break
            if not self._seat(seq, seq.target, plan):
                break
            tokens += seq.target

    def _all_decodes(self, plan: Plan) -> None:
        while True:
            plan.decodes = [seq for seq in self.running if seq.decodes]
            needs = [self._need(seq.kv + 1) - seq.blocks for seq in plan.decodes]
            # vLLM v0 asks for a free block for each in turn, and the last may not need its own.
            idle = self.policy == "prefill_first" and needs[-1:] == [0]
            if sum(needs) + idle <= self.free:
                break
            self._throw_out_one(plan)
        for seq in plan.decodes:
            self._grow(seq, seq.kv + 1)

    def _chunked(self, plan: Plan) -> None:
        """As vLLM v1's loop over running requests, and then over waiting ones."""

        def left() -> int:
            """Return the tokens of the step's budget that nobody has yet."""
            taken = len(plan.decodes) + sum(tokens for _, tokens, _ in plan.chunks)
            return self.told.token_budget - taken

        alone = len(self.running) + len(self.waiting) == 1
        limits = self.told.long_prefill_limits_alone or not alone
        longest = (self.told.long_prefill_token_threshold * limits) or self.told.token_budget
        for seq in list(self.running):
            if left() <= 0:
                break
            if seq not in self.running:
                continue
            tokens = 1 if seq.decodes else min(seq.target - seq.kv, left(), longest)
            while seq in self.running and not self._grow(seq, seq.kv + tokens):
                self._throw_out_one(plan)
            if seq not in self.running:
                if self.told.serves_behind_victim:
                    continue
                break
            if seq.decodes:
                plan.decodes.append(seq)
            else:
                plan.chunks.append((seq, tokens, seq.kv))
        while self.waiting and not plan.preempted and len(self.running) < self.told.max_num_seqs:
            tokens = min(left(), longest)
            if tokens <= 0 or not self._seat(self._head(), tokens, plan):
                break

    def _end(self, plan: Plan, gone: list[Seq]) -> list[Seq]:
        """The step has been computed: tokens, who ended, and who is given up since it began."""
        ended: list[Seq] = []
        for seq in sorted(plan.decodes, key=lambda seq: seq.joined):
            seq.kv += 1
            self._got_token(seq, ended)
        for seq, tokens, _ in plan.chunks:
            seq.kv += tokens
            if seq.kv == seq.target:
                self.count += 1
                seq.joined = self.count
                self._got_token(seq, ended)
        static = self.policy == "static"
        for seq in [seq for seq in self.running if seq in ended and not static]:
            self._release(seq)
        for seq in ended:
            self.count += 1
            seq.ended = self.count
        for seq in gone:
            self._drop(seq, set(ended))
        if static and not self.seats_left and all(seq.ended for seq in self.running):
            for seq in list(self.running):
                self._release(seq)
        return ended

    def _got_token(self, seq: Seq, ended: list[Seq]) -> None:
        seq.generated += 1
        if seq.generated == seq.output:
            ended.append(seq)

    def _drop(self, seq: Seq, ended: set[Seq]) -> None:
        if seq in self.waiting:
            self.waiting.remove(seq)
        elif seq in self.running and seq not in ended:
            if self.policy == "static":
                self.count += 1
                seq.ended = self.count
            else:
                self._release(seq)
