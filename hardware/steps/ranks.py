"""Ranks of data-parallel attention: what each computes for itself, and what all do together.

Every rank holds attention, dense layers and embeddings whole (or shares them with its
tensor-parallel group), and a part of the experts, dealt whole over all GPUs. In every layer of
experts the ranks' tokens are sent to where their experts are, and what comes of them back:

    step = slowest rank (host + attention + what depends on its tokens)
         + experts of all ranks' tokens on the busiest GPU + what is sent

A step that is replayed as a CUDA graph is padded to the largest rank's tokens on every rank
(docs/parallelism.md). Ranks wait for each other in every layer; the slowest is the same one in all
of them, but where layers differ.
"""

from array import array

import numpy as np
import numpy.typing as npt

from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.group import Group
from hardware.links.exchange import PLAIN, Exchange
from hardware.memory.runtime import capture_sizes
from hardware.prices.graphs import replayed
from hardware.prices.protocol import Prices
from hardware.prices.together import all_reduces_s
from hardware.steps.joint_prices import JointPrices
from hardware.steps.prices import StepPrices
from model.dataclass import dataclass
from model.spec import DecoderSpec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Data-parallel ranks of one engine, as a version of it has them."""

    count: int = 1
    pads_every_step: bool = False
    """To the largest rank's tokens; else only what is replayed as a graph."""
    sync_steps: int = 1
    """After so many steps of a wave all learn whether anybody has work left."""
    syncs_first: bool = False
    """And after the first one."""
    exchange: Exchange = PLAIN
    """How tokens come to their experts."""


ALONE = Ranks()
"""An engine whose ranks are all one tensor-parallel group."""


def ranks_of(spec: DecoderSpec, count: int, version: str, backend: str) -> Ranks:
    """Return the ranks of an engine; ``ALONE`` where they know nothing of each other.

    Raises:
        ValueError: a version before those that are modelled.
    """
    if count == 1:
        return ALONE
    rows, at = vllm().data_parallel, version_key(version)
    if at < version_key(rows.oldest):
        raise ValueError(
            f"data_parallel_size = {count} with vLLM {version}, expected 1: it is modelled from "
            f"{rows.oldest} on"
        )
    if not spec.num_experts and rows.dense_apart.at(at):
        return ALONE
    return Ranks(
        count=count,
        pads_every_step=rows.pads_every_step.at(at),
        sync_steps=rows.sync_steps.at(at),
        syncs_first=rows.syncs_first.at(at),
        exchange=Exchange(backend, rows.quantized_dispatch.at(at)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JointTables:
    """Seconds of the ranks of one engine, by tokens."""

    ranks: int
    even_s: Floats
    """By tokens of each rank where all have as many, from 0: their own and what they share."""
    padded: npt.NDArray[np.int64]
    token_s: Floats
    most_s: Floats
    total_s: Floats
    graph_tokens: int
    eager_s: float

    def prices(self, own: StepPrices) -> JointPrices:
        """Return the prices of steps; ``own`` are one rank's, tokens apart."""
        return JointPrices(
            self.ranks,
            own,
            array("q", self.padded.tolist()),
            array("d", self.token_s.tolist()),
            array("d", self.most_s.tolist()),
            array("d", self.total_s.tolist()),
            self.graph_tokens,
            self.eager_s,
        )


def joint_tables(
    group: Group, prices: Prices, ranks: Ranks, most: int, largest: int, *, graphs: bool
) -> JointTables:
    """Tabulate what ranks spend on their tokens.

    Args:
        group: one rank's; its experts are those of one GPU of all ranks.
        prices: seconds of operators and collectives.
        ranks: how they work together.
        most: tokens of one rank's step.
        largest: tokens of the largest step that a graph replays.
        graphs: whether small steps are padded to the sizes of captured graphs.
    """
    tokens = np.arange(most + 1.0)
    token_s = prices.operators_s(group.own_operators(tokens), group.spec.num_layers)
    if group.tp > 1:
        token_s = token_s + all_reduces_s(group, prices, tokens)
    totals = np.arange(ranks.count * most + 1.0)
    total_s = prices.operators_s(group.expert_operators(totals), 0)
    total_s = total_s + ranks.exchange.by_total_s(group, prices, ranks.count, totals)
    most_s = ranks.exchange.by_most_s(group, prices, ranks.count, tokens)
    largest, replays = min(most, largest), ranks.exchange.replays
    padded = _padded(most, largest if replays else 0, ranks, graphs=graphs and replays)
    computed = np.where(padded >= 0, padded, np.arange(most + 1))
    even_s = token_s[computed] + (most_s[computed] + total_s[ranks.count * computed])
    replayable = (capture_sizes(largest)[-1] if replays else 0) if graphs else most
    eager_s = group.spec.expert_layers * prices.host.eager_experts_s
    even_s[replayable + 1 :] = np.maximum(even_s[replayable + 1 :], eager_s)
    return JointTables(
        ranks=ranks.count,
        even_s=even_s,
        padded=padded,
        token_s=token_s,
        most_s=most_s,
        total_s=total_s,
        graph_tokens=replayable,
        eager_s=eager_s,
    )


def _padded(most: int, largest: int, ranks: Ranks, *, graphs: bool) -> npt.NDArray[np.int64]:
    """By tokens of the largest rank: what all compute, -1 where each computes its own."""
    computed = replayed(most, largest) if graphs else np.arange(most + 1)
    if ranks.pads_every_step:
        return computed
    replayable = max(capture_sizes(largest), default=0)
    return np.where(np.arange(most + 1) <= replayable, computed, -1)
