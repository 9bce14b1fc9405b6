"""A store below the host's memory, as a secondary tier of vLLM's own manager of tiers, in ticks.

Runs where vLLM is. What is in the store, and how long transfers take, is ours; when the manager
asks for it, and what becomes of that, is vLLM's.
"""

from collections import OrderedDict, deque
from types import SimpleNamespace
from typing import Any

from experiments.witness.host import Host
from experiments.witness.vllm_objects import Json, block_hasher, known

from vllm.sampling_params import SamplingParams  # isort: skip
from vllm.v1.kv_offload.base import (  # isort: skip
    LookupResult,
    Medium,
    RequestOffloadingContext,
    make_offload_key,
)
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager  # isort: skip
from vllm.v1.kv_offload.tiering.manager import (  # isort: skip
    CPUPrimaryTierOffloadingManager,
    TieringOffloadingManager,
)
from vllm.v1.request import Request  # isort: skip


class Tier(SecondaryTierManager):  # type: ignore[misc, unused-ignore]
    """Chunks in order of use; one transfer after the other in each direction."""

    medium = Medium.STORAGE

    def __init__(self, settings: Json, view: memoryview) -> None:
        super().__init__(None, view, "store")
        self.settings = settings
        self.now = 0
        self.there: OrderedDict[Any, list[int]] = OrderedDict()  # whether written, and readers
        self.lines: dict[bool, deque[Any]] = {False: deque(), True: deque()}
        self.keys: dict[int, list[Any]] = {}
        self.ends: dict[bool, int] = {}
        self.ended: list[JobResult] = []

    def fill(self, keys: list[Any]) -> None:
        """These are there from the beginning."""
        self.there |= {key: [1, 0] for key in keys}

    def lookup(self, key: Any, req_context: Any) -> LookupResult:
        """Whether it is written."""
        found = self.there.get(key)
        return LookupResult.HIT if found is not None and found[0] else LookupResult.MISS

    def submit_store(self, job_metadata: Any) -> None:
        """Write it."""
        self._submit(job_metadata)

    def submit_load(self, job_metadata: Any) -> None:
        """Read it; until then it stays."""
        for key in job_metadata.keys:
            self.there[key][1] += 1
        self._submit(job_metadata)

    def _submit(self, job: Any) -> None:
        self.keys[job.job_id] = list(job.keys)
        line = self.lines[job.is_promotion]
        line.append(job)
        if len(line) == 1:
            self._begin(job.is_promotion, self.now)

    def _begin(self, reads: bool, at: int) -> None:
        line = self.lines[reads]
        while line:
            job = line[0]
            if reads or self._has_room(job):
                moved = self.settings["block"] * len(self.keys[job.job_id])
                self.ends[reads] = at + self.settings["transfer"] + moved
                return
            line.popleft()
            self.ended.append(JobResult(job_id=job.job_id, success=True))

    def _has_room(self, job: Any) -> bool:
        keys = self.keys[job.job_id]
        wanted = [key for key in keys if key not in self.there]
        self._use(keys)
        idle = [
            key for key, (written, readers) in self.there.items()
            if written and not readers and key not in keys
        ]  # fmt: skip
        lacking = max(0, len(wanted) + len(self.there) - self.settings["chunks"])
        self.keys[job.job_id] = wanted
        if lacking > len(idle):
            return False
        for key in idle[:lacking]:
            del self.there[key]
        self.there |= {key: [0, 0] for key in wanted}
        return bool(wanted)

    def _use(self, keys: list[Any]) -> None:
        for key in reversed(keys):
            if key in self.there:
                self.there.move_to_end(key)

    def next(self) -> int | None:
        """When the next transfer ends."""
        return min(self.ends.values(), default=None)

    def advance(self, now: int) -> None:
        """Let transfers end until now."""
        while self.ends and min(self.ends.values()) <= now:
            end = min(self.ends.values())
            over = [reads for reads, then in self.ends.items() if then == end]
            for reads in sorted(over, key=lambda each: self.lines[each][0].job_id):
                del self.ends[reads]
                job = self.lines[reads].popleft()
                keys = self.keys[job.job_id]
                for key in keys:
                    self.there[key][0] = 1
                    self.there[key][1] -= reads
                self._use(keys)
                self.ended.append(JobResult(job_id=job.job_id, success=True))
                self._begin(reads, end)
        self.now = now

    def get_finished_jobs(self) -> list[JobResult]:
        """Each once."""
        ended, self.ended = self.ended, []
        return ended

    def on_new_request(self, req_context: Any) -> RequestOffloadingContext:
        """As any."""
        return RequestOffloadingContext()

    def drain_jobs(self) -> None:
        """Nobody asks for it."""


class Below(Host):
    """The link of one engine to its host, and of that to a store."""

    def __init__(self, scenario: Json, engine: Any, texts: list[list[int]]) -> None:
        super().__init__(scenario["host"], engine)
        told, size = scenario["host"], scenario["block_size"]
        view = memoryview(bytearray(told["chunks"])).cast("B", shape=[told["chunks"], 1])
        region = SimpleNamespace(create_kv_memoryview=lambda: view, cleanup=lambda: None)
        first = CPUPrimaryTierOffloadingManager(told["chunks"], region, told["eviction_policy"])
        self.tier = Tier(scenario["store"], first.get_kv_memoryview())
        manager = TieringOffloadingManager(first, [self.tier])
        engine.connector.connector_scheduler.manager = manager
        blocks = told["blocks_per_chunk"]
        for row in scenario["store"]["rows"]:
            hashes = _hashes(texts[row][: _common(scenario["requests"][row])], size)
            ends = range(blocks - 1, len(hashes), blocks)
            groups = range(len(scenario["windows"]))
            self.tier.fill(
                [make_offload_key(hashes[end], group) for group in groups for end in ends]
            )

    def at(self, now: int) -> None:
        """It is time to plan."""
        self.tier.advance(now)

    def restless(self) -> bool:
        """Whether copies wait for a next step, whoever is there."""
        return bool(self.deferred)

    def next(self) -> int | None:
        """When the next transfer ends."""
        ends = [end for end in (super().next(), self.tier.next()) if end is not None]
        return min(ends, default=None)

    def output(self, now: int) -> Any:
        """See ``Host``."""
        self.tier.advance(now)
        return super().output(now)


def _common(row: Any) -> int:
    """Tokens of a prompt that others may have as well."""
    _, prompt, _, _, streams = row
    return int(min(prompt, streams[-1][1] if streams else 0))


def _hashes(tokens: list[int], size: int) -> list[Any]:
    """Of the whole blocks of a text."""
    if not tokens:
        return []
    asked = {"request_id": "text", "prompt_token_ids": tokens, "pooling_params": None,
             "sampling_params": SamplingParams(max_tokens=1), "eos_token_id": None,
             "arrival_time": 0.0, **block_hasher(size)}  # fmt: skip
    return list(Request(**known(Request, asked)).block_hashes)
