"""Where requests come from: an open stream of arrivals, users who wait for their answers, and
sessions, whose next turns wait for the answers to those before."""

from typing import cast

import numpy as np
import numpy.typing as npt

from sim.engine.agenda import ARRIVAL, Agenda
from sim.engine.arrivals import Block, Coming
from sim.following import following_of
from sim.traffic.users import Ask, Users
from workloads.requests import Floats, Requests

_BLOCK = 4096  # rows turned into Python numbers at a time, so that memory holds few of them


def sequences(
    requests: Requests,
    times_s: Floats,
    order: npt.NDArray[np.int64] | None = None,
    owner: npt.NDArray[np.int32] | None = None,
    replica: int = 0,
) -> Coming:
    """Give the rows of a workload as they are asked for, each at its time.

    All of them in their order, or the rows of another ``order``; or those that a replica owns.
    """
    columns = (times_s, requests.prompt_tokens, requests.output_tokens, requests.priority)

    def block(start: int) -> Block:
        """Return the next rows from ``start`` on: numbers, arrivals (s), tokens, priorities."""
        rows = np.arange(start, min(start + _BLOCK, count))
        if order is not None:
            rows = order[rows]
        if owner is not None:
            rows = rows[owner[rows] == replica]
        arrival_s, prompt_tokens, output_tokens, priority = (
            column[rows].tolist() for column in columns
        )
        return rows.tolist(), arrival_s, prompt_tokens, output_tokens, priority

    count = len(requests) if order is None else len(order)
    return Coming(map(block, range(0, count, _BLOCK)))


def first_rows(requests: Requests) -> npt.NDArray[np.int64] | None:
    """Rows that wait for no row before: the first turns of sessions; None without any: all."""
    return None if requests.turn is None else np.flatnonzero(requests.turn == 0)


def users_of(agenda: Agenda, requests: Requests, ask: Ask) -> Users:
    """Return the users of a workload, or its sessions, whose requests wait for answers."""
    assert requests.think_s is not None
    first = first_rows(requests)
    users = min(requests.users or 0, len(requests) if first is None else len(first))
    think_s = cast("memoryview[float]", requests.think_s.data)
    free = sequences(requests, requests.arrival_s, first) if users else Coming(iter(()))
    return Users(
        agenda, ARRIVAL, users, free, following_of(requests), think_s,
        requests.prompt_tokens.data, requests.output_tokens.data, requests.priority.data, ask,
    )  # fmt: skip
