"""The conformance suite: what is built in keeps every rule, and each rule catches who breaks it."""

import itertools
import random

import pytest

from sim.caches import CACHES
from sim.conformance import ConformanceError, caches, check_cache, check_scheduler
from sim.conformance.cases import Case, case, fitting
from sim.conformance.drive import drive
from sim.conformance.watch import BLOCKS
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.settings.registry import ORDERS, POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_that_is_built_in_keeps_the_rules(name: str) -> None:
    rules = check_scheduler(POLICIES[name], cases=80)
    assert rules[-1] == "equals the policy that it claims to be", "the slow reference"


def test_the_cases_include_the_hard_parts() -> None:
    """Else the rules would pass for want of anything to see."""
    seen = {"preempted": 0, "cut": 0, "given up": 0, "cached": 0, "ahead": 0, "padding": 0}
    for number, order in itertools.product(range(60), ORDERS):
        for policy in (ChunkedPrefill, Static):
            told = case(number, order, cuts_prompts=policy.cuts_prompts, aborts=number % 3 == 2)
            scheduler = told.scheduler(policy, ORDERS[order], {})
            told = fitting(told, scheduler)
            log = drive(told, scheduler, many=False)
            ended = sum(len(step.finished) for step in log)
            seen["preempted"] += sum(len(step.preempted) for step in log)
            seen["cut"] += sum(past > 0 for step in log for _, _, past in step.chunks)
            seen["padding"] += sum(step.padding for step in log)
            seen["given up"] += len(told.rows) - ended
            seen["cached"] += told.caching * len(told.rows)
            seen["ahead"] += told.settings.ahead * len(told.rows)
    assert min(seen.values()) > 100, seen


class LosesABlock(ChunkedPrefill):
    def form(self, now_s: float) -> Batch | None:
        batch = super().form(now_s)
        if batch is not None and batch.chunks and self.pool.free:
            self.pool.free -= 1
        return batch


class KeepsBlocks(ChunkedPrefill):
    def abort(self, sequence: Sequence) -> bool:
        return sequence in self.running or sequence.waits or sequence in self.arrived


class DeniesWhoIsHere(Static):
    def abort(self, sequence: Sequence) -> bool:
        super().abort(sequence)
        return False


class SeatsOneMore(ChunkedPrefill):
    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self.max_num_seqs += 1


class SpendsMore(ChunkedPrefill):
    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self.token_budget += 9


class SplitsSecretly(ChunkedPrefill):
    cuts_prompts = False


class SkipsTokens(ChunkedPrefill):
    def form(self, now_s: float) -> Batch | None:
        batch = super().form(now_s)
        if batch is not None:
            batch.chunks[:] = [(tokens, past + 1) for tokens, past in batch.chunks]
        return batch


class ThrowsOutTheImportant(ChunkedPrefill):
    def victim(self) -> Sequence:
        if self.waiting.by_priority:
            return next(iter(self.running))
        return super().victim()


class ForgetsTheVictim(ChunkedPrefill):
    def preempt_one(self, batch: Batch, *, decodes_ready: bool) -> None:
        super().preempt_one(batch, decodes_ready=decodes_ready)
        if batch.preempted:
            self.waiting.discard(batch.preempted[-1])


class ThrowsOutTheFirst(ChunkedPrefill):
    """Who then is the first again."""

    def victim(self) -> Sequence:
        return next(iter(self.running))


class WaitsForCompany(ChunkedPrefill):
    def form(self, now_s: float) -> Batch | None:
        if not self.running and self.waiting.count == 1:
            return None
        return super().form(now_s)


class FormsNobody(ChunkedPrefill):
    def form(self, now_s: float) -> Batch | None:
        return super().form(now_s) or Batch()


class Shuffles(ChunkedPrefill):
    def form(self, now_s: float) -> Batch | None:
        random.shuffle(self.prefilling)
        return super().form(now_s)


class AdmitsNowAndThen(ChunkedPrefill):
    """Every third time that it is asked: but it is not asked while many steps are computed."""

    asked = 0

    def start_prompts(self, batch: Batch) -> None:
        self.asked += 1
        if self.asked % 3 == 0 or not self.running:
            super().start_prompts(batch)


class KnowsTheFuture(ChunkedPrefill):
    def form(self, now_s: float) -> Batch | None:
        self.prefilling.sort(key=lambda each: each.output_tokens)
        return super().form(now_s)


class KnowsWhenSomebodyEnds(PrefillFirst):
    def admit_prompts(self, batch: Batch, seats: int) -> None:
        if all(each.finish_step - self.decoding.step > 3 for each in self.decodes()):
            super().admit_prompts(batch, seats)


class ClaimsTooMuch(ChunkedPrefill):
    claims = "chunked_prefill"

    def form(self, now_s: float) -> Batch | None:
        self.prefilling.reverse()
        return super().form(now_s)


class ClaimsNonsense(ChunkedPrefill):
    claims = "chunked"


class HasNoPolicy(Scheduler):
    pass


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (LosesABlock, "blocks add up"),
        (KeepsBlocks, "an abort frees blocks"),
        (DeniesWhoIsHere, "an abort frees blocks"),
        (SeatsOneMore, "seats, budget and chunks"),
        (SpendsMore, "seats, budget and chunks"),
        (SplitsSecretly, "seats, budget and chunks"),
        (SkipsTokens, "seats, budget and chunks"),
        (ThrowsOutTheImportant, "who is thrown out"),
        (ForgetsTheVictim, "who is thrown out"),
        (ThrowsOutTheFirst, "never stuck"),
        (WaitsForCompany, "never stuck"),
        (FormsNobody, "never stuck"),
        (Shuffles, "the same twice"),
        (AdmitsNowAndThen, "many steps equal single steps"),
        (KnowsTheFuture, "never reads the true output length"),
        (KnowsWhenSomebodyEnds, "never reads the true output length"),
        (ClaimsTooMuch, "equals the policy that it claims to be"),
        (ClaimsNonsense, "equals the policy that it claims to be"),
        (HasNoPolicy, "runs without an error"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_told_which(policy: type[Scheduler], rule: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{rule}: ") as raised:
        check_scheduler(policy)
    assert raised.value.rule == rule
    if policy is not ClaimsNonsense:
        assert " seats, budget " in str(raised.value), "the case in words"


def test_settings_of_its_own_reach_the_class() -> None:
    class Choosy(ChunkedPrefill):
        def __init__(
            self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, *, ok: bool
        ) -> None:
            super().__init__(pool, waiting, settings)
            if not ok:
                raise ValueError("not ok")

    check_scheduler(Choosy, {"ok": True}, cases=5)
    with pytest.raises(ConformanceError, match="runs without an error: ValueError: not ok"):
        check_scheduler(Choosy, {"ok": False}, cases=5)


def test_kinds_of_caches_are_checked() -> None:
    # Those whose steps the cases do not know.
    unknown = {"drafts", "drafted_hybrid", "drafted_tiers", "pipelined", "pipelined_hybrid"}
    assert {*caches.OF_CASES} == {*CACHES} - unknown


@pytest.mark.parametrize("kind", caches.OF_CASES)
def test_every_kind_of_cache_keeps_the_rules(kind: str) -> None:
    assert BLOCKS in check_cache(kind, cases=25)


def test_a_cache_that_keeps_a_block_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(told: Case) -> Scheduler:
        pool = BlockPool(told.num_blocks + 1, told.block_size)
        pool.take(1)
        return ChunkedPrefill(pool, ORDERS[told.order](), told.settings)

    monkeypatch.setattr(caches, "OF_CASES", {"count": make})
    with pytest.raises(ConformanceError, match="4 blocks are held, sequences hold 3"):
        check_cache("count")
