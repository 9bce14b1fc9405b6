"""A real engine: the simulation's own scheduler, driving the torch decoder on the wall clock.

The simulator asks a scheduler for a batch and waits the priced time; this engine asks the same
scheduler and computes the batch. So simulated against measured compares prices, and nothing else.
"""

import heapq
import time
from collections.abc import Container
from math import inf

import torch

from model.decoder import Decoder
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.pools import Pool
from sim.recording import BlockCount, Recorder
from sim.result import FINISHED, REJECTED, Result
from sim.scenario import Scenario
from sim.schedulers import make_scheduler
from workloads.requests import Requests

_NAP_S = 0.05
"""Closer to an arrival than this the engine polls, as serving engines do: a core that was put to
sleep wakes up late, and with cold caches."""


class Executor:
    """Computes a scheduler's batches: keeps slots of the KV cache and the tokens of sequences."""

    def __init__(self, decoder: Decoder, slots: int, slot_tokens: int, seed: int = 0) -> None:
        self.decoder = decoder
        self.cache = decoder.new_cache(slots, slot_tokens)
        self._free = list(range(slots))
        self._slots: dict[Sequence, int] = {}
        self._past: dict[Sequence, int] = {}
        self._tokens: dict[Sequence, list[int]] = {}
        generator = torch.Generator().manual_seed(seed)
        # Prompts are windows into one random text: what they say does not matter to their price.
        self._text = torch.randint(decoder.spec.vocab_size, (2 * slot_tokens,), generator=generator)
        self._text = self._text.to(decoder.device)

    def place(self, sequence: Sequence, past_tokens: int) -> None:
        """Give a sequence ``past_tokens`` cached tokens without computing them."""
        self._slots[sequence] = heapq.heappop(self._free)
        self._past[sequence] = past_tokens
        self._tokens[sequence] = [1]

    def keep(self, running: Container[Sequence]) -> None:
        """Free the slots of all who no longer hold blocks, and close the gaps they leave.

        Neighbouring slots attend in one call. Paged kernels, which do not mind gaps, are spared
        the copies.
        """
        gone = [each for each in self._slots if each not in running]
        for sequence in gone:
            heapq.heappush(self._free, self._slots.pop(sequence))
        if gone and self.decoder.kernel != "varlen":
            self._close_gaps()

    def _close_gaps(self) -> None:
        slots, free = self._slots, self._free
        for sequence in sorted(slots, key=slots.__getitem__, reverse=True):
            if free[0] > slots[sequence]:
                break
            target = heapq.heappushpop(free, slots[sequence])
            self.cache.move(slots[sequence], target, self._past.get(sequence, 0))
            slots[sequence] = target

    def forget(self, sequence: Sequence) -> None:
        """Drop the tokens of a sequence that has ended."""
        self._tokens.pop(sequence, None)
        self._past.pop(sequence, None)

    def compute(self, batch: Batch, decodes: list[Sequence], padding: list[Sequence]) -> None:
        """Run one step and wait for its tokens."""
        chunks = []
        for sequence, (chunk, past) in zip(batch.prefills, batch.chunks, strict=True):
            if sequence not in self._slots:
                self._slots[sequence] = heapq.heappop(self._free)
                self._tokens.setdefault(sequence, [])
            ids = self._ids(sequence, past, past + chunk)
            chunks.append((self._slots[sequence], ids, past))
        slots, pasts, tokens = self._slots, self._past, self._tokens
        rows = sorted(decodes, key=slots.__getitem__)
        # A padding row computes its last token over and over.
        rows += sorted(padding, key=slots.__getitem__)
        logits = self.decoder.step(
            self.cache,
            chunks,
            [slots[row] for row in rows],
            [tokens[row][-1] for row in rows],
            [pasts[row] for row in rows[: len(decodes)]]
            + [pasts[row] - 1 for row in rows[len(decodes) :]],
        )
        sampled = logits.argmax(-1).tolist()
        for sequence, (chunk, past), token in zip(
            batch.prefills, batch.chunks, sampled, strict=False
        ):
            pasts[sequence] = past + chunk
            if past + chunk == sequence.target_tokens:
                tokens[sequence].append(token)
        for row, token in zip(rows[: len(decodes)], sampled[len(chunks) :], strict=False):
            pasts[row] += 1
            tokens[row].append(token)

    def _ids(self, sequence: Sequence, start: int, stop: int) -> torch.Tensor:
        prompt = sequence.prompt_tokens
        first = sequence.request % self.cache.slot_tokens
        if stop <= prompt:
            return self._text[first + start : first + stop]
        generated = torch.tensor(self._tokens[sequence], device=self._text.device)
        return torch.cat((self._text[first : first + prompt], generated))[start:stop]


def run_step(scheduler: Scheduler, executor: Executor, batch: Batch) -> None:
    """Compute a batch that the scheduler has just formed."""
    executor.keep(scheduler.running)
    padding = scheduler.padding if batch.padding else []
    decodes = scheduler.decodes() if batch.decodes else []
    executor.compute(batch, decodes, padding)


def serve(decoder: Decoder, scenario: Scenario, requests: Requests, seed: int = 0) -> Result:
    """Serve a workload for real on one device, in wall-clock time; return it as a simulation would.

    Args:
        decoder: its spec must be the scenario's.
        scenario: one replica; its prices are not used.
        requests: any workload, open or closed loop.
        seed: of the prompts' text.

    Raises:
        ValueError: more than one replica, a tensor-parallel group, or a prefix cache.
    """
    served = scenario.pool
    if served.engine.enable_prefix_caching:
        raise ValueError(
            "engine.enable_prefix_caching: true: the real engine has no prefix cache, expected "
            "false"
        )
    if served.gpus != 1:
        raise ValueError(
            f"replicas = {served.replicas}, tensor_parallel_size = "
            f"{served.tensor_parallel_size}: the real engine runs one replica on one device"
        )
    return _Server(decoder, served, requests, seed).run()


class _Server:
    def __init__(self, decoder: Decoder, served: Pool, requests: Requests, seed: int) -> None:
        self.scheduler = make_scheduler(served)
        self.longest = served.max_model_len
        self.executor = Executor(decoder, served.engine.max_num_seqs, self.longest, seed)
        self.requests = requests
        self.recorder = Recorder(requests, 1, decoder.spec.sliding_window)
        self.closed = requests.users is not None
        self.to_come: list[tuple[float, int]] = []
        self.issued = 0
        if self.closed:
            for _ in range(min(requests.users or 0, len(requests))):
                self._think(0.0)
        else:
            self.to_come = list(zip(requests.arrival_s.tolist(), range(len(requests)), strict=True))
        heapq.heapify(self.to_come)

    def run(self) -> Result:
        """Serve until everybody has an answer."""
        scheduler, journal = self.scheduler, self.recorder.replicas[0]
        origin_s = time.perf_counter()
        now_s = 0.0
        while True:
            self._arrivals(now_s)
            batch = scheduler.next_batch(now_s)
            if batch is None:
                next_s = min(self.to_come[0][0] if self.to_come else inf, scheduler.wake_s)
                if next_s == inf:
                    break
                _wait_until(origin_s + next_s)
                now_s = max(time.perf_counter() - origin_s, next_s)
                continue
            journal.begin(batch, now_s)
            run_step(scheduler, self.executor, batch)
            end_s = time.perf_counter() - origin_s
            journal.step_end_s.append(end_s)
            self._ended(journal.end(batch, scheduler, now_s, end_s), end_s)
            now_s = end_s
        pool = scheduler.pool
        return self.recorder.result([BlockCount(pool.num_blocks, pool.held)], now_s)

    def _ended(self, finished: list[Sequence], now_s: float) -> None:
        for sequence in finished:
            self.recorder.outcomes.ended(sequence, 0, FINISHED, now_s)
            if self.closed:
                self._think(now_s)
            if sequence not in self.scheduler.running:
                self.executor.forget(sequence)

    def _arrivals(self, now_s: float) -> None:
        requests = self.requests
        while self.to_come and self.to_come[0][0] <= now_s:
            arrival_s, row = heapq.heappop(self.to_come)
            prompt, output = int(requests.prompt_tokens[row]), int(requests.output_tokens[row])
            sequence = Sequence(row, arrival_s, prompt, output, int(requests.priority[row]))
            if self.closed:
                self.recorder.arrived(row, arrival_s)
            if prompt + output > self.longest or not self.scheduler.fits(prompt, output):
                self.recorder.outcomes.ended(sequence, -1, REJECTED, -1.0)
                if self.closed:
                    self._think(arrival_s)
                continue
            self.scheduler.admit(sequence)

    def _think(self, now_s: float) -> None:
        row = self.issued
        if row < len(self.requests):
            self.issued += 1
            think_s = self.requests.think_s
            assert think_s is not None
            heapq.heappush(self.to_come, (now_s + float(think_s[row]), row))


def _wait_until(time_s: float) -> None:
    left_s = time_s - time.perf_counter()
    if left_s > _NAP_S:
        time.sleep(left_s - _NAP_S)
    while time.perf_counter() < time_s:
        pass
