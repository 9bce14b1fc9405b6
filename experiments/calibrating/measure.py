"""Times real decoder steps of chosen shapes, for a calibration to learn from.

A measured step is a whole turn of the real engine: the scheduler forms the batch, the decoder
computes it, tokens come back to the host, the scheduler and the recorder account for it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from experiments.calibrating.engine import Executor, run_step
from hardware.gpu import Gpu
from model.dataclass import dataclass
from model.torch.decoder import Decoder
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.journal import Journal
from sim.engine.sequence import Sequence as Request
from sim.engine.settings import Settings
from sim.engine.waiting import FirstCome
from sim.recording.recorder import FULL_STEPS

LEAST_REPEATS = 3
"""Turns of one shape below which its median is not trusted."""
EVERY_BATCH = 16
"""Up to this many rows each number is measured."""
MOST_REPEATS = 16
"""Turns of one shape at which its median is good enough."""
PROBED_ROWS = 2048
"""Of the square matrices whose product tells what a device computes at most."""
PROBED_BYTES = 2**28
"""Of the read that tells its bandwidth."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One step: contexts of its decodes (the current token included), and its prefill chunks."""

    contexts: tuple[int, ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()
    """``(chunk_tokens, past_tokens)``"""

    @property
    def tokens(self) -> int:
        """Tokens that the step computes."""
        return len(self.contexts) + sum(chunk for chunk, _ in self.chunks)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The median duration of a shape."""

    shape: Shape
    seconds: float
    repeats: int
    mean_s: float = float("nan")
    """The mean of the same timings: above the median by what the machine stalls."""


def grid(
    max_decodes: int, max_context_tokens: int, max_tokens: int, *, mixed: int = 24, seed: int = 0
) -> list[Shape]:
    """Return the shapes to measure: decodes, prefills with and without past, and mixtures.

    Decodes: batch times context. Prefills: tokens, number of chunks, past. Mixtures, as chunked
    prefill has them. Traffic brings any number of tokens, and libraries are up to a third slower
    for odd ones than for round ones: so every small batch is measured, and larger steps are drawn
    from each octave. Decodes of one batch differ in context by up to a factor of three.
    """
    rng = np.random.default_rng(seed)
    longest = max_context_tokens
    shapes = [
        _decodes(rng, batch, context, longest)
        for batch in [*range(1, min(max_decodes, EVERY_BATCH) + 1), *_octaves(rng, max_decodes)]
        for context in _powers(longest, first=16, factor=4)
    ]
    for tokens in _octaves(rng, max_tokens, least=4):
        for chunks in (1, 2, 4):
            for past in (0, longest // 4, longest // 2):
                each = tokens // chunks
                fits = each and chunks <= max_decodes and each + past <= longest
                if fits and (chunks == 1 or past == 0):
                    shapes.append(Shape((), ((each, past),) * chunks))
    for _ in range(mixed):
        batch = int(np.exp(rng.uniform(0, np.log(max(2, max_decodes - 1)))))
        context = int(np.exp(rng.uniform(np.log(16), np.log(longest / 1.5))))
        chunk = int(np.exp(rng.uniform(np.log(4), np.log(max(5, max_tokens - batch)))))
        past = int(rng.choice([0, 0, longest // 4]))
        chunk = min(chunk, longest - past, max_tokens - batch)
        if chunk > 0:
            shapes.append(Shape(_decodes(rng, batch, context, longest).contexts, ((chunk, past),)))
    return list(dict.fromkeys(shapes))


def _powers(limit: int, first: int = 1, factor: int = 2) -> list[int]:
    values = [first]
    while values[-1] * factor < limit:
        values.append(values[-1] * factor)
    return sorted({min(value, limit) for value in [*values, limit]})


def _octaves(rng: np.random.Generator, limit: int, least: int = EVERY_BATCH) -> list[int]:
    """Two numbers out of each doubling from ``least`` to ``limit``, and ``limit`` itself."""
    found = {limit} if limit > least else set()
    while least < limit:
        found.update(rng.integers(least + 1, min(2 * least, limit) + 1, 2).tolist())
        least *= 2
    return sorted(found)


def _decodes(rng: np.random.Generator, batch: int, context: int, longest: int) -> Shape:
    if batch == 1:
        return Shape((context,))
    contexts = np.clip(np.rint(context * rng.uniform(0.5, 1.5, batch)), 1, longest)
    return Shape(tuple(int(each) for each in contexts))


class Timer(Protocol):
    """Something that runs steps."""

    def time_s(self, shape: Shape) -> float:
        """Run one step of ``shape`` from a fresh state and return its wall-clock seconds."""


class Stopwatch:
    """Times steps of any shape on one decoder."""

    def __init__(self, decoder: Decoder, max_sequences: int, slot_tokens: int) -> None:
        self.decoder = decoder
        self.slots = max_sequences
        self.slot_tokens = slot_tokens
        self.executor = Executor(decoder, max_sequences, slot_tokens)

    def time_s(self, shape: Shape) -> float:
        """Run one step of ``shape`` from a fresh state and return its wall-clock seconds."""
        scheduler = self._scheduler(shape)
        journal = Journal(FULL_STEPS)
        start_s = time.perf_counter()
        batch = scheduler.next_batch(0.0)
        assert batch is not None
        journal.begin(batch, 0.0)
        run_step(scheduler, self.executor, batch)
        journal.step_end_s.append(1.0)
        journal.end(batch, scheduler, 0.0, 1.0)
        seconds = time.perf_counter() - start_s
        assert (batch.decodes, sorted(batch.chunks)) == (len(shape.contexts), sorted(shape.chunks))
        return seconds

    def _scheduler(self, shape: Shape) -> ChunkedPrefill:
        """A scheduler whose next batch is ``shape``; cached tokens are placed, not computed."""
        scheduler = ChunkedPrefill(
            BlockPool(self.slots * self.slot_tokens, 16),
            FirstCome(),
            Settings(self.slots, max(shape.tokens, self.slots)),
        )
        self.executor.keep(())
        for row, context in enumerate(shape.contexts):
            request = Request(row, 0.0, max(1, context - 1), 3, 0)
            request.kv_tokens, request.generated_tokens = context - 1, 1
            request.first_scheduled_s = request.first_token_s = 0.0
            scheduler.pool.take(scheduler.pool.blocks(context - 1))
            scheduler.running[request] = None
            scheduler.decoding.join(request)
            self.executor.place(request, context - 1)
        for row, (chunk, past) in enumerate(shape.chunks, len(shape.contexts)):
            request = Request(row, 0.0, past + chunk, 3, 0)
            if past:
                request.kv_tokens = past
                scheduler.pool.take(scheduler.pool.blocks(past))
                scheduler.seat(request)
                self.executor.place(request, past)
            else:
                scheduler.admit(request)
        return scheduler


def measure(
    stopwatch: Timer,
    shapes: Sequence[Shape],
    budget_s: float,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Measurement]:
    """Time every shape in turn, again and again, until the budget is spent; return the medians.

    Going round spreads a machine's drift over all shapes. Each turn times a shape twice: after
    another shape, and after itself. A serving engine meets both, and the second is faster where
    caches are warm; the mean of both medians counts. Where not even the first lap is over when the
    budget is spent (a busy machine, a slow one), the shapes that it has reached are gone round
    with, and the others dropped; so are those with fewer than ``LEAST_REPEATS`` turns.
    ``progress`` is told the share of the budget that is spent.

    Raises:
        ValueError: the budget does not last for a warm-up and three timings of a single shape.
    """
    begin_s = time.perf_counter()
    timings: list[list[list[float]]] = [[] for _ in shapes]
    order = np.random.default_rng(0).permutation(len(shapes)).tolist()
    reached = 0
    for lap in range(MOST_REPEATS):
        for place in order if lap == 0 else order[:reached]:
            spent_s = time.perf_counter() - begin_s
            if spent_s > budget_s and lap >= LEAST_REPEATS:
                break
            if spent_s > LEAST_REPEATS * budget_s:  # the least is too much: keep what there is
                break
            if lap == 0 and spent_s > budget_s and reached:
                break
            timings[place].append([stopwatch.time_s(shapes[place]) for _ in range(2)])
            reached += lap == 0
            progress(min(1.0, (time.perf_counter() - begin_s) / budget_s))
    found = [
        Measurement(
            shape, float(np.median(turns, axis=0).mean()), len(turns), float(np.mean(turns))
        )
        for shape, turns in zip(shapes, timings, strict=True)
        if len(turns) >= LEAST_REPEATS
    ]
    if not found:
        raise ValueError(
            f"budget_s = {budget_s:g} is too short to time one step {LEAST_REPEATS} times"
        )
    return found


def probe_device(device: torch.device, dtype: torch.dtype) -> Gpu:
    """Describe a device: peaks as a large matrix product and a long read reach them.

    These only anchor the roofline; the fitted efficiencies are relative to them.
    """
    compute = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
    square = torch.randn(PROBED_ROWS, PROBED_ROWS, device=device, dtype=dtype)
    flops_per_s = 2 * PROBED_ROWS**3 / _best_s(lambda: square @ square, device)
    many = torch.zeros(PROBED_BYTES // 4, device=device, dtype=torch.float32)
    bytes_per_s = PROBED_BYTES / _best_s(lambda: many.sum(), device)
    if device.type == "cuda":
        memory, name = torch.cuda.get_device_properties(device).total_memory, "cuda"
        name = torch.cuda.get_device_name(device)
    else:
        import os

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        name = f"cpu, {torch.get_num_threads()} threads"
    return Gpu.model_validate(
        {
            "name": name,
            "memory_bytes": memory,
            "bandwidth_bytes_per_s": bytes_per_s,
            "peak_flops_per_s": {compute: flops_per_s},
            "sources": {
                "all": f"probed: a {PROBED_ROWS}-cube matrix product and a "
                f"{PROBED_BYTES // 2**20} MiB read"
            },
        }
    )


def _best_s(run: Callable[[], object], device: torch.device) -> float:
    best = float("inf")
    for _ in range(5):
        start_s = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start_s)
    return best
