"""A real engine: the simulation itself, its batches computed by the torch decoder.

Where the simulator waits the priced time, this engine computes the batch and looks at the clock on
the wall. So simulated against measured compares prices, and nothing else.
"""

import heapq
import time
from array import array
from collections.abc import Container
from dataclasses import replace

import torch

from model.torch.decoder import Decoder
from sim.engine.machine import Machine
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.recording.result import Result
from sim.settings.scenario import NO_API, Scenario
from sim.simulation import simulate
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
            if not sequence.waits:  # it has ended
                del self._tokens[sequence], self._past[sequence]
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
    longest, seats = served.max_model_len, served.engine.max_num_seqs

    def machine(scheduler: Scheduler) -> Decoding:
        return Decoding(scheduler, Executor(decoder, seats, longest, seed))

    return simulate(replace(scenario, api=NO_API), requests, machine=machine)


class Decoding(Machine):
    """Computes every batch with the decoder; steps end when the clock on the wall says so."""

    def __init__(self, scheduler: Scheduler, executor: Executor) -> None:
        self.scheduler, self.executor = scheduler, executor
        self.origin_s: float | None = None
        """What the clock on the wall says at time 0; the first batch starts at once."""

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        """See ``Machine``: one step, not before its time has come."""
        if self.origin_s is None:
            self.origin_s = time.perf_counter() - start_s
        _wait_until(self.origin_s + start_s)
        run_step(self.scheduler, self.executor, batch)
        end_s = time.perf_counter() - self.origin_s
        ends_s.append(end_s)
        return end_s


def _wait_until(time_s: float) -> None:
    left_s = time_s - time.perf_counter()
    if left_s > _NAP_S:
        time.sleep(left_s - _NAP_S)
    while time.perf_counter() < time_s:
        pass
