"""Random scenarios of a scheduler as plain data, and what becomes of their requests.

All times are whole ticks of 2**-30 seconds, and all prices whole ticks per unit: then no sum of
them is ever rounded, in whatever order it is added up, and two schedules are equal to the last bit
or they are not.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from experiments.witness.drafts import Drafts, drawn_drafts, in_groups
from experiments.witness.features import FEATURES, LACKED
from experiments.witness.handover import Handover, drawn_handover
from experiments.witness.hybrid import STATES, Hybrid, drawn_hybrid
from experiments.witness.sizes import TIGHT, USUAL, Sizes

TICKS_PER_S = 1 << 30


class Row(NamedTuple):
    """One request."""

    arrival: int
    prompt: int
    output: int
    priority: int
    streams: list[tuple[int, int]]
    """Its tokens up to an end are the first ones of a stream that others may begin with, too."""


class Price(NamedTuple):
    """Ticks of a step: once, and per unit of what it computes."""

    step: int
    token: int
    sequence: int
    position: int
    """That a decoding sequence attends."""
    pair: int
    """Of a query and a key, in chunks of prompts."""


FINE = Price(step=1 << 20, token=1 << 13, sequence=1 << 12, position=1 << 4, pair=1 << 2)
"""About what a small model costs on a GPU."""
COARSE = Price(step=1 << 20, token=0, sequence=0, position=0, pair=0)
"""All steps take as long, so that arrivals and ends of steps coincide."""


class Host(NamedTuple):
    """A second tier of the KV cache, and the link to it."""

    chunks: int
    blocks_per_chunk: int
    eviction_policy: str
    store_threshold: int
    offload_prompt_only: bool
    transfer: int
    """Ticks of a transfer, beside its blocks."""
    block: int
    """Ticks of a block."""


class Store(NamedTuple):
    """A third tier below the host, and the link to it."""

    chunks: int
    transfer: int
    """Ticks of a transfer, beside its chunks."""
    block: int
    """Ticks of a chunk."""
    rows: list[int]
    """Requests whose prompts, as far as others may have them as well, are there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One engine's settings, and requests in order of arrival."""

    seats: int
    budget: int
    blocks: int
    """Without the null block."""
    block_size: int = 16
    scheduler: str = "chunked_prefill"
    order: str = "fcfs"
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = False
    watermark: float = 0.0
    ahead: bool = False
    """Asynchronous scheduling."""
    caching: bool = False
    windows: tuple[int | None, ...] = (None,)
    """Of every group of the KV cache, the tokens that it keeps; None: all."""
    states: int = 0
    """Groups that keep a state."""
    hybrid: Hybrid | None = None
    """Prefix caching in several groups."""
    host: Host | None = None
    """KV in the host's memory."""
    store: Store | None = None
    """KV in a store below it."""
    drafts: Drafts | None = None
    """Speculative decoding."""
    handover: Handover | None = None
    """The engine that decodes, where this one prefills."""
    stages: tuple[int, ...] = ()
    """Of every pipeline stage, how many times the price of a step it takes."""
    timeout: int | None = None
    """Ticks after which a client gives up."""
    price: Price = FINE
    requests: list[Row]

    def data(self, number: int) -> dict[str, Any]:
        """As a line of JSON."""
        data = {"id": number} | asdict(self) | {"price": self.price._asdict()}
        parts = {"host": self.host, "store": self.store, "handover": self.handover,
                 "drafts": self.drafts, "hybrid": self.hybrid}  # fmt: skip
        return data | {name: part and part._asdict() for name, part in parts.items()}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Read what ``data`` wrote."""
        given = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        rows = [
            Row(arrival, prompt, output, priority, [(stream, end) for stream, end in streams])
            for arrival, prompt, output, priority, streams in data["requests"]
        ]
        given |= {"price": Price(**data["price"]), "requests": rows}
        if data.get("host") is not None:
            given["host"] = Host(**data["host"])
        if data.get("store") is not None:
            given["store"] = Store(**data["store"])
        if data.get("drafts") is not None:
            drafts = Drafts(**data["drafts"])
            ranges = [(first, last, tokens) for first, last, tokens in drafts.by_sequences]
            given["drafts"] = drafts._replace(by_sequences=ranges, kinds=tuple(drafts.kinds))
        if data.get("handover") is not None:
            given["handover"] = Handover(**data["handover"])
        if data.get("hybrid") is not None:
            given["hybrid"] = Hybrid(**data["hybrid"])
        given["stages"] = tuple(data.get("stages", ()))
        if "windows" in data:
            given["windows"] = tuple(data["windows"])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every request, and the steps that did it."""

    first: list[int | None]
    """When each request had its first token."""
    finish: list[int | None]
    hits: list[int | None]
    """Prompt tokens in the prefix cache when it was first admitted."""
    preemptions: list[int]
    steps: list[list[int]]
    """Of each step: decodes, chunks, tokens of all chunks. Of two engines: those of the first, a
    row of -1, those of the second."""
    brought: list[int | None] = field(default_factory=list)
    """With two engines: blocks that the second one read of each request."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Read it from a line of JSON."""
        return cls(**{each.name: data[each.name] for each in fields(cls) if each.name in data})


def draw(feature: str, number: int, lacks: Iterable[str] = ()) -> Scenario:
    """Return scenario ``number`` of a feature, always the same: without what a release lacks."""
    on = FEATURES[feature]
    rng = np.random.default_rng([number, *feature.encode()])
    if feature == "all":  # each of them, or not
        on = frozenset(each for each in sorted(on) if rng.random() < 0.5)
        on -= {LACKED.get(name, name) for name in lacks}
    sizes = TIGHT if "tight" in on else USUAL
    seats = int(rng.choice(sizes.seats))
    budget = int(max(seats, rng.choice(sizes.budgets)))
    size = int(rng.choice(sizes.blocks))
    prompts, outputs = int(rng.choice(sizes.prompts)), int(rng.choice(sizes.outputs))
    count = int(rng.integers(2, 40))
    prompt = rng.integers(1, 2 * prompts + 1, count)
    output = rng.integers(1, 2 * outputs + 1, count)
    longest = -(-2 * (prompts + outputs) // size) + 1
    blocks = longest * seats + 10
    if rng.random() < sizes.short:
        blocks = int(longest + rng.integers(0, sizes.spare * longest))
    price = COARSE if rng.random() < 0.2 else FINE
    service = price.step * (outputs + 1)
    gap = service / float(rng.choice(sizes.loads))
    arrivals = _arrivals(rng, count, gap, price)
    priority = rng.integers(0, 3, count) if "priority" in on else np.zeros(count, dtype=int)
    caching = "caching" in on
    streams = _streams(rng, prompt, output, sizes) if caching else [[] for _ in range(count)]
    if "v0" in on:  # prompts are not cut, and those that do not fit into a step are not served
        budget = max(budget, 2 * (prompts + outputs))
    drafts = drawn_drafts(rng, output, "ahead" in on) if "drafts" in on else None
    if drafts is not None:
        rows = 1 + drafts.tokens
        budget = max(budget, rows + 1)
        price = price._replace(position=0)  # what is in the cache is not known when one plans
        blocks += -(-4 * rows // size)
    if STATES in on:
        size = max(size, 16)  # smaller ones would grow beside a state
    groups = _groups_of(rng, on, size) if "groups" in on else _Groups()
    if "groups" in on:  # of each as many as one request takes at most, and some more
        of_states = 3 * groups.states if STATES in on else groups.states
        blocks = len(groups.windows) * longest + of_states + blocks - longest
        if drafts is not None:
            drafts = in_groups(drafts, rng, groups.windows)
            blocks += len(groups.windows) * -(-4 * (1 + drafts.tokens) // size)
            blocks += groups.states * drafts.tokens
    host = _host(rng, blocks) if "host" in on else None
    if host is not None and "store" in on:  # all of it fits into the host, and is offered once
        tokens = int((prompt + output).sum())
        host = host._replace(chunks=tokens // size + count, store_threshold=0)
    return Scenario(
        windows=groups.windows,
        states=groups.states,
        hybrid=groups.hybrid,
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
        handover=drawn_handover(rng, longest, seats, size, drafts) if "handover" in on else None,
        stages=_stages(rng) if "stages" in on else (),
        timeout=int(service * rng.choice([0.3, 2, 10])) + 1 if "aborts" in on else None,
        price=price,
        requests=_rows(arrivals, prompt, output, priority, streams),
    )


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


def _groups_of(rng: np.random.Generator, on: frozenset[str], size: int) -> _Groups:
    if STATES in on:
        return _Groups((None,), int(rng.choice([1, 3])), drawn_hybrid(rng, on, (None,), size))
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
