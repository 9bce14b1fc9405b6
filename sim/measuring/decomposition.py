"""Where the time of a request went: parts that add up to its latency to the last bit.

    sent                                                                   first token      last
     |-- api --|-- queue --|-- prefill --|-- between chunks --|-- preempted --|              |
                                                                              |-- decode ----|
                                                                              |-- paused ----|

TTFT is api + queue + prefill + chunk_wait + preempted, and E2E is that, decode and paused: ``api``
is the server's time on the way in and out, ``queue`` ends with the first step that works on the
request, ``prefill`` is the time of the steps that compute a part of its prompt (others share these
steps), ``chunk_wait`` of those in between, ``preempted`` from losing its KV blocks to the next such
step. After the first token ``paused`` are the gaps between two tokens in which it lost its blocks
or its turn, ``decode`` all others. What the client waits before it sends is no part of either.

Of a request whose prompt another replica computes, the first five are of that replica, and of the
API on the way from it as well; ``BETWEEN`` follows, up to the first token.

Parts are rounded to multiples of the last digit of their total and the largest takes what is left.
All are then whole multiples of one power of two, less than 2^53 of them, so that they add up
exactly, in any order.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.recording.result import FINISHED
from sim.recording.tape import Column

Floats = npt.NDArray[np.float64]

PARTS = {
    "api": "in the API server, on the way in and out",
    "queue": "in the queue, until the first step that worked on it",
    "prefill": "in steps that computed a part of its prompt",
    "chunk_wait": "in steps between these",
    "preempted": "without KV blocks, before its first token",
    "decode": "between tokens, as they came",
    "paused": "between tokens, without KV blocks or its turn",
}
"""Every part of E2E; those of TTFT are the first five."""
OF_TTFT = tuple(PARTS)[:5]
SPANS = {"ttft": ("first_token_s", OF_TTFT), "e2e": ("finish_s", tuple(PARTS))}
BETWEEN = {
    "kv_wait": "at the replica that answers, until it had blocks for the whole prompt",
    "transfer": "while these were filled from the replica that had computed it",
    "first_step": "from then to the end of the step that computed the last prompt token again",
}
"""Parts of both, behind ``preempted``, where some replicas compute prompts for others."""


def parts_of_span(columns: Mapping[str, Column], span: str) -> tuple[str, ...]:
    """Return the names of the parts of a span."""
    names = SPANS[span][1]
    between = BETWEEN if "prefill_replica" in columns else ()
    return (*OF_TTFT, *between, *names[len(OF_TTFT) :])


def client_wait_s(columns: Mapping[str, Column]) -> Floats:
    """What each request waited at the client until it was sent: shape (requests,), seconds."""
    wait: Floats = columns["sent_s"] - columns["arrival_s"]
    return wait


def whole_s(columns: Mapping[str, Column], span: str) -> Floats:
    """The ``ttft`` or ``e2e`` of each request, shape (requests,), seconds; NaN if unfinished."""
    total: Floats = columns[SPANS[span][0]] - columns["sent_s"]
    return np.where(np.equal(columns["status"], FINISHED), total, np.nan)


def decomposition(columns: Mapping[str, Column], span: str, output_s: float) -> dict[str, Floats]:
    """Parts of the ``ttft`` or ``e2e`` of requests, seconds; they add up to it exactly.

    NaN for requests that did not come that far.

    Args:
        columns: of the requests, as in a result.
        span: which latency.
        output_s: the API server's time of a token on its way out.
    """
    out_s = columns["streaming_s"] + output_s
    first_s = columns["first_token_s"] - out_s
    begun_s, computed_s = columns["first_scheduled_s"], columns["computed_s"]
    prompt_s, api_s = first_s - begun_s, columns["reached_s"] - columns["sent_s"] + out_s
    between = {}
    if "prefill_replica" in columns:
        handed = columns["prefill_replica"] >= 0
        computed_s = np.where(handed, columns["prefill_computed_s"], computed_s)
        prompt_s = np.where(handed, columns["prefilled_s"] - begun_s, prompt_s)
        api_s = api_s + np.where(handed, columns["handed_s"] - columns["prefilled_s"], 0.0)
        times = (columns["handed_s"], columns["blocks_s"], columns["loaded_s"], first_s)
        between = {
            name: np.where(handed, over_s - start_s, 0.0)
            for name, start_s, over_s in zip(BETWEEN, times, times[1:], strict=False)
        }
    parts = {
        "api": api_s,
        "queue": begun_s - columns["reached_s"],
        "prefill": computed_s,
        "chunk_wait": prompt_s - computed_s - columns["lost_s"],
        **between,
        "preempted": columns["lost_s"],
        "decode": columns["finish_s"] - columns["first_token_s"] - columns["paused_s"],
        "paused": columns["paused_s"],
    }
    return exact_parts(
        whole_s(columns, span), {name: parts[name] for name in parts_of_span(columns, span)}
    )


def exact_parts(total: Floats, parts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Round parts that add up to a total but for rounding, so that they do so exactly.

    None becomes negative but for the rounding of its own ends; the total is not changed.
    """
    unit = np.spacing(np.abs(total))
    with np.errstate(invalid="ignore"):
        rounded = np.array([*parts.values()]) / unit  # quicker than to ``stack`` them
        np.maximum(np.rint(rounded, out=rounded), 0.0, out=rounded)
        rounded *= unit
    rounded[:, np.isnan(total)] = np.nan
    largest = np.where(np.isnan(rounded), 0.0, rounded).argmax(axis=0)
    rows = np.arange(len(total))
    rounded[largest, rows] = 0.0
    rest = total - rounded.sum(axis=0)  # multiples of the unit: no rounding
    rounded[largest, rows] = rest
    return dict(zip(parts, rounded, strict=True))
