"""Random scenarios of a scheduler as plain data, and what becomes of their requests.

All times are whole ticks of 2**-30 seconds, and all prices whole ticks per unit: then no sum of
them is ever rounded, in whatever order it is added up, and two schedules are equal to the last bit
or they are not.
"""

from dataclasses import asdict, field, fields
from typing import Any, NamedTuple, Self

from experiments.witness.drafts import Drafts
from experiments.witness.handover import Handover
from experiments.witness.hybrid import Hybrid
from model.dataclass import dataclass

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
    chunked: bool = False
    """Whether what they keep begins anew with every so many tokens."""
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
