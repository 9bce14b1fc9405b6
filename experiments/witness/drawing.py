"""Random scenarios: drawn from a feature and a number, always the same."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.witness.drafts import Drafts, drawn_drafts, in_groups
from experiments.witness.features import FEATURES, LACKED
from experiments.witness.handover import Handover, drawn_handover
from experiments.witness.hybrid import CHUNKS, STATES, Hybrid, drawn_hybrid
from experiments.witness.scenario import COARSE, FINE, Host, Price, Row, Scenario, Store
from experiments.witness.sizes import TIGHT, USUAL, Sizes


def draw(feature: str, number: int, lacks: Iterable[str] = ()) -> Scenario:
    """Return scenario ``number`` of a feature, always the same: without what a release lacks."""
    rng = np.random.default_rng([number, *feature.encode()])
    on = _parts(rng, feature, lacks)
    sizes = TIGHT if "tight" in on else USUAL
    seats = int(rng.choice(sizes.seats))
    budget = int(max(seats, rng.choice(sizes.budgets)))
    size = int(rng.choice(sizes.blocks))
    prompts, outputs = int(rng.choice(sizes.prompts)), int(rng.choice(sizes.outputs))
    count = int(rng.integers(2, 40))
    prompt = rng.integers(1, 2 * prompts + 1, count)
    output = rng.integers(1, 2 * outputs + 1, count)
    longest = -(-2 * (prompts + outputs) // size) + 1
    blocks = _blocks(rng, sizes, longest, seats)
    price = COARSE if rng.random() < 0.2 else FINE
    service = price.step * (outputs + 1)
    arrivals = _arrivals(rng, count, service / float(rng.choice(sizes.loads)), price)
    priority = rng.integers(0, 3, count) if "priority" in on else np.zeros(count, int)
    caching = "caching" in on
    streams = _streams(rng, prompt, output, sizes) if caching else [[] for _ in range(count)]
    if "v0" in on:  # prompts are not cut, and those that do not fit into a step are not served
        budget = max(budget, 2 * (prompts + outputs))
    drafts = _drafts(rng, output, on) if "drafts" in on else None
    if drafts is not None:
        budget = max(budget, drafts.tokens + 2)
        price = price._replace(position=0)  # what is in the cache is not known when one plans
        blocks += -(-4 * (1 + drafts.tokens) // size)
    if STATES in on:
        size = max(size, 16)  # smaller ones would grow beside a state
    groups = _groups_of(rng, on, size) if "groups" in on else _Groups()
    blocks += (more := _more_blocks(groups, longest, STATES in on))
    if "groups" in on and drafts is not None:
        drafts = in_groups(drafts, rng, groups.windows, CHUNKS in on)
        rows = _rows_of_drafts(groups, drafts, size)
        blocks, more = blocks + rows, more + rows
    needed = (int((prompt + output).sum()) // size + count) * len(groups.windows)
    host = _host_of(rng, on, blocks, needed)
    return Scenario(
        **groups._asdict(),
        seats=seats,
        budget=budget,
        blocks=blocks,
        block_size=size,
        scheduler="prefill_first" if "v0" in on else "chunked_prefill",
        order="priority" if "priority" in on else "fcfs",
        long_prefill_token_threshold=int(rng.choice([7, 64])) if "threshold" in on else 0,
        drafts=drafts,
        scheduler_reserve_full_isl="reserve" in on,
        watermark=float(rng.choice([0.01, 0.1, 0.4])) if "watermark" in on else 0.0,
        ahead="ahead" in on,
        caching=caching,
        host=host,
        store=_store(rng, host, count) if host is not None and "store" in on else None,
        handover=_handover(rng, longest, seats, size, drafts, more) if "handover" in on else None,
        stages=_stages(rng) if "stages" in on else (),
        timeout=int(service * rng.choice([0.3, 2, 10])) + 1 if "aborts" in on else None,
        price=price,
        requests=_rows(arrivals, prompt, output, priority, streams),
    )


def _drafts(rng: np.random.Generator, output: np.ndarray, on: frozenset[str]) -> Drafts:
    """Where a host keeps them, layers of the drafter are in the group of all layers."""
    drafts = drawn_drafts(rng, output, "ahead" in on)
    return drafts._replace(kinds=(None,)) if "host" in on else drafts


def _handover(
    rng: np.random.Generator, longest: int, seats: int, size: int, drafts: Drafts | None, more: int
) -> Handover:
    """A second engine, with so many blocks more for further groups."""
    drawn = drawn_handover(rng, longest, seats, size, drafts)
    return drawn._replace(blocks=drawn.blocks + more)


def _host_of(rng: np.random.Generator, on: frozenset[str], blocks: int, needed: int) -> Host | None:
    """A host beside so many blocks: of single ones with groups, where it has the GPU's room and
    more, or less; with room for all above a store."""
    if "host" not in on:
        return None
    host = _host(rng, blocks)
    if "groups" in on:
        least = 1 if "small" in on else blocks
        host = host._replace(blocks_per_chunk=1, chunks=max(host.chunks, least))
    return _holds_all(host, needed) if "store" in on else host


def _parts(rng: np.random.Generator, feature: str, lacks: Iterable[str]) -> frozenset[str]:
    """What a scenario of a feature has; of "all" each part, or not."""
    on = FEATURES[feature]
    if feature == "all":
        on = frozenset(each for each in sorted(on) if rng.random() < 0.5)
        on -= {LACKED.get(name, name) for name in lacks}
    return on


def _blocks(rng: np.random.Generator, sizes: Sizes, longest: int, seats: int) -> int:
    """More blocks than anybody needs, or hardly enough."""
    if rng.random() < sizes.short:
        return int(longest + rng.integers(0, sizes.spare * longest))
    return longest * seats + 10


def _holds_all(host: Host, chunks: int) -> Host:
    """All of it fits into the host, and is offered once."""
    return host._replace(chunks=chunks, store_threshold=0)


def _arrivals(
    rng: np.random.Generator, count: int, gap: float, price: Price
) -> npt.NDArray[np.float64]:
    """Poisson arrivals; with coarse prices they coincide with ends of steps."""
    arrivals = rng.exponential(gap, count).cumsum()
    return np.round(arrivals / price.step) * price.step if price is COARSE else arrivals


def _rows(*columns: Iterable[Any]) -> list[Row]:
    return [
        Row(int(at), int(prompt), int(output), int(rank), own)
        for at, prompt, output, rank, own in zip(*columns, strict=True)
    ]


class _Groups(NamedTuple):
    """Of the KV cache, by the names of a scenario."""

    windows: tuple[int | None, ...] = (None,)
    states: int = 0
    hybrid: Hybrid | None = None
    chunked: bool = False


def _more_blocks(groups: _Groups, longest: int, caching_states: bool) -> int:
    """Of each group as many blocks as one request takes at most, beside those of the first."""
    of_states = 3 * groups.states if caching_states else groups.states
    return (len(groups.windows) - 1) * longest + of_states


def _rows_of_drafts(groups: _Groups, drafts: Drafts, size: int) -> int:
    """Blocks that one request takes for drafts, of all groups."""
    of_tokens = len(groups.windows) * -(-4 * (1 + drafts.tokens) // size)
    return of_tokens + groups.states * drafts.tokens


def _groups_of(rng: np.random.Generator, on: frozenset[str], size: int) -> _Groups:
    if STATES in on:
        return _Groups((None,), int(rng.choice([1, 3])), drawn_hybrid(rng, on, (None,), size))
    if CHUNKS in on:
        windows = _chunks(rng, size)
        found = drawn_hybrid(rng, on, windows, size) if "caching" in on else None
        return _Groups(windows, 0, found, chunked=True)
    windows, states = _groups(rng)
    if "caching" in on:
        return _Groups(windows, 0, drawn_hybrid(rng, on, windows, size))
    return _Groups(windows, states if size >= 16 else 0)  # smaller ones would grow beside a state


def _store(rng: np.random.Generator, host: Host, count: int) -> Store:
    """A store of the host's size or many times that, which has what half of the requests begin
    with."""
    return Store(
        chunks=int(host.chunks * float(rng.choice([1, 3, 10]))),
        transfer=int(rng.choice([0, 1 << 18, 1 << 20])),
        block=int(rng.choice([1 << 10, 1 << 16, 1 << 20])),
        rows=[row for row in range(count) if rng.random() < 0.5],
    )


def _host(rng: np.random.Generator, blocks: int) -> Host:
    """A host's memory from a part of the GPU's to ten times that, near or far."""
    size = int(rng.choice([1, 1, 2, 5]))
    return Host(
        chunks=max(1, int(blocks * float(rng.choice([0.3, 1, 3, 10])) / size)),
        blocks_per_chunk=size,
        eviction_policy=str(rng.choice(["lru", "arc"])),
        store_threshold=int(rng.choice([0, 0, 2])),
        offload_prompt_only=bool(rng.random() < 0.6),
        transfer=int(rng.choice([0, 1 << 18, 1 << 20])),
        block=int(rng.choice([1 << 10, 1 << 16, 1 << 20])),
    )


def _stages(rng: np.random.Generator) -> tuple[int, ...]:
    """Two to four stages, in half of all cases equally slow."""
    count = int(rng.integers(2, 5))
    if rng.random() < 0.5:
        return (1,) * count
    return tuple(int(each) for each in rng.integers(1, 4, count))


def _groups(rng: np.random.Generator) -> tuple[tuple[int | None, ...], int]:
    """Windows of groups, and how many groups have a state."""
    short, long = int(rng.choice([3, 8, 40])), int(rng.choice([17, 64, 200]))
    kinds: tuple[tuple[int | None, ...], ...] = (
        (None, short), (long, None), (None, short, short), (short, None, long),
    )  # fmt: skip
    return kinds[int(rng.integers(len(kinds)))], int(rng.choice([0, 0, 1, 3]))


def _chunks(rng: np.random.Generator, size: int) -> tuple[int | None, ...]:
    """Chunks of groups, all equally long and of whole blocks."""
    chunk = size * int(rng.choice([1, 3, 8]))
    kinds: tuple[tuple[int | None, ...], ...] = (
        (None, chunk), (chunk, None), (None, chunk, chunk, chunk),
    )  # fmt: skip
    return kinds[int(rng.integers(len(kinds)))]


def _streams(
    rng: np.random.Generator, prompt: np.ndarray, output: np.ndarray, sizes: Sizes
) -> list[list[tuple[int, int]]]:
    """Prompts that begin alike, repeat, or go on where an answer ended."""
    count = len(prompt)
    kind, groups = rng.choice(sizes.texts), rng.integers(0, 4, count)
    if kind == 0:  # system prompts
        shared = np.minimum(rng.integers(0, 2 * prompt.max(), 4)[groups], prompt)
        ends = shared
    elif kind == 1:  # the same prompts
        ends = prompt
    elif kind == 2:  # conversations
        ends = prompt + output
    else:  # a system prompt, and behind it one of four prompts
        system = np.minimum(int(rng.integers(1, 60)), prompt)
        own = rng.integers(4, 8, count)
        return [
            [(0, int(one)), (int(other), int(end))]
            for one, other, end in zip(system, own, prompt, strict=True)
        ]  # fmt: skip
    return [[(int(group), int(end))] for group, end in zip(groups, ends, strict=True)]
