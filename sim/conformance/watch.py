"""Rules that hold around every single step: limits, blocks, and who is thrown out."""

from sim.conformance.cases import Case
from sim.conformance.drive import Watch
from sim.conformance.error import ConformanceError
from sim.engine.caches.block_tables import runs_of
from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.caches.held import held_runs
from sim.engine.caches.hybrid_blocks import HybridBlocks
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.caches.runs import Run
from sim.engine.scheduler import NEVER, Scheduler
from sim.engine.sequence import Batch, Sequence

BLOCKS = "blocks add up"
LIMITS = "seats, budget and chunks"
PREEMPTION = "who is thrown out"


class Rules(Watch):
    """Raises ConformanceError for the first step that breaks one of them."""

    def __init__(self, case: Case, scheduler: Scheduler) -> None:
        self.told, self.scheduler = case.settings, scheduler
        self._gone: set[Sequence] = set()

    def gone(self, sequence: Sequence) -> None:
        """Whoever is thrown out where nobody can run may have left when a batch tells of it."""
        self._gone.add(sequence)

    def formed(self, batch: Batch, running: list[Sequence]) -> None:
        """Look at the batch, and at who lost its blocks for it."""
        self._limits(batch)
        for sequence in batch.preempted:
            self._thrown_out(sequence, batch, running)

    def completed(self) -> None:
        """Add up the blocks of everybody."""
        scheduler = self.scheduler
        pool, step, held = scheduler.pool, scheduler.decoding.step, 0
        shared: set[Run] = set()
        loads = scheduler.loads
        parked = [] if loads is None else [*loads.parked]
        kept = [] if loads is None else [*loads.kept]
        for each in scheduler.running:
            decoded = step - each.joined_step if each.finish_step >= 0 else 0
            held += self._held(each, each.kv_tokens + decoded, shared)
        for each in parked:
            held += self._held(each, each.loaded_tokens, shared)
        for each in kept:
            held += self._held(each, each.kv_tokens, shared)
        late = [] if scheduler.fence is None else scheduler.fence.late
        for one in late:
            held += self._held(one.sequence, one.held_tokens, shared)
        gone = [one.sequence for one in late]
        try:
            pool.check_integrity(held + sum(run.count for run in shared))
            if isinstance(pool, PrefixCache | HybridBlocks):
                pool.check_cache([*scheduler.running, *parked, *kept, *gone])
        except AssertionError as error:
            raise ConformanceError(BLOCKS, str(error)) from None

    def _held(self, sequence: Sequence, tokens: int, shared: set[Run]) -> int:
        """Blocks of so many tokens that nobody else has; runs with an identity are ``shared``."""
        pool = self.scheduler.pool
        if isinstance(pool, HybridBlocks):
            runs = [run for table in sequence.tables for run in runs_of(table)]
            shared.update(runs)
            return pool.held_by(sequence, tokens) - sum(run.count for run in runs)
        if isinstance(pool, GroupedPool):
            if sequence.finish_step >= 0:
                self.scheduler.decoding.note(sequence)
            return pool.held_by(sequence, tokens)
        if isinstance(pool, PrefixCache):
            shared.update(held_runs(sequence))
            return pool.blocks(tokens) - sequence.named_blocks
        return pool.blocks(tokens)

    def _limits(self, batch: Batch) -> None:
        scheduler = self.scheduler
        seats, budget = self.told.max_num_seqs, self.told.token_budget
        _hold(scheduler.pool.free >= 0, BLOCKS, f"{-scheduler.pool.free} more than there are")
        taken = len(scheduler.running)
        _hold(taken <= seats, LIMITS, f"{taken} requests run, of at most {seats}")
        chunks = [tokens for tokens, _ in batch.chunks]
        tokens = sum(chunks) + (batch.decodes if scheduler.cuts_prompts else 0)
        alone = not scheduler.cuts_prompts and len(chunks) == 1
        _hold(alone or tokens <= budget, LIMITS, f"{tokens} tokens in a step of at most {budget}")
        count = scheduler.decoding.count
        _hold(
            batch.decodes in (0, count),
            LIMITS,
            f"{batch.decodes} of {count} get a token",
        )
        _hold(batch.steps >= 1, LIMITS, f"a batch of {batch.steps} steps")
        _hold(
            not (chunks and batch.steps > 1), LIMITS, f"{batch.steps} steps at once with a prompt"
        )
        _hold(len(set(batch.prefills)) == len(batch.prefills), LIMITS, "a prompt twice in a step")
        for sequence, (tokens, past) in zip(batch.prefills, batch.chunks, strict=True):
            if sequence.target_tokens != NEVER:  # else it was given up since it was planned
                self._chunk(sequence, tokens, past)

    def _chunk(self, sequence: Sequence, tokens: int, past: int) -> None:
        who, target = f"request {sequence.request}", sequence.target_tokens
        runs = sequence in self.scheduler.running and sequence.prefills
        _hold(runs, LIMITS, f"{who} has a chunk and is not among those whose prompt is computed")
        _hold(
            past == sequence.kv_tokens and tokens > 0 and past + tokens <= target, LIMITS,
            f"{who} has {sequence.kv_tokens} of {target} tokens, and a chunk of {tokens} behind "
            f"{past}",
        )  # fmt: skip
        whole = self.scheduler.cuts_prompts or tokens == target
        _hold(whole, LIMITS, f"{who} has a chunk of {tokens} of {target}; cuts_prompts is False")

    def _thrown_out(self, sequence: Sequence, batch: Batch, running: list[Sequence]) -> None:
        """It is whole, queued and blockless again; by priority nobody less important stayed."""
        scheduler, who = self.scheduler, f"request {sequence.request}"
        loads = scheduler.loads
        if sequence in self._gone:
            return
        if sequence in scheduler.running or (loads is not None and sequence in loads.parked):
            return  # it came back at once, or loads what is kept of it
        queued = sequence.waits and sequence in scheduler.waiting.members()
        _hold(queued, PREEMPTION, f"{who} was thrown out and does not wait")
        tokens = sequence.prompt_tokens + sequence.generated_tokens
        again = (sequence.kv_tokens, sequence.target_tokens) == (0, tokens)
        _hold(
            again, PREEMPTION,
            f"{who} was thrown out and is to compute {sequence.target_tokens} tokens behind "
            f"{sequence.kv_tokens}, expected {tokens} behind 0",
        )  # fmt: skip
        if scheduler.waiting.by_priority:
            for other in running:
                stays = other in scheduler.running and not (
                    other.leaves or other in scheduler.padding or other in batch.preempted
                )
                _hold(
                    not stays or _importance(other) > _importance(sequence), PREEMPTION,
                    f"{who} was thrown out, and request {other.request} stays, which is less "
                    "important",
                )  # fmt: skip


def _importance(sequence: Sequence) -> tuple[float, float, int]:
    return -sequence.priority, -sequence.arrival_s, -sequence.request


def _hold(true: bool, rule: str, what: str) -> None:
    if not true:
        raise ConformanceError(rule, what)
