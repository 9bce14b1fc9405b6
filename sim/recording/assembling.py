"""Puts the parts of a run together: what its replicas recorded becomes one result."""

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from itertools import accumulate
from math import inf

import numpy as np
import numpy.typing as npt

from sim.api_server import all_reached_s, seen_at
from sim.recording.blocks import STEPS
from sim.recording.handovers import HANDOVER_COLUMNS
from sim.recording.result import TIMED_OUT, UNFINISHED, Result
from sim.recording.run import DRAFT_TYPES, SEGMENT_TYPES, Log, Part, no_outcomes
from sim.recording.store_use import store_columns
from sim.recording.tape import Column, Tape, joined
from sim.recording.tiers import TIER_COLUMNS, replica_columns, tier_outcomes
from sim.settings.scenario import ApiTime
from workloads.requests import Requests


def result_of(
    requests: Requests,
    parts: SequenceOf[Part],
    api: ApiTime,
    end_s: float,
    stop_s: float = inf,
) -> Result:
    """Put the parts of a run together. What never left the memory becomes arrays.

    Args:
        requests: the workload.
        parts: of all replicas; the columns of a single one are taken over, not copied.
        api: what lies between client and engine.
        end_s: when the last thing happened in the engines.
        stop_s: when the clock was stopped; what a client sees later never happened.
    """
    columns = _request_columns(requests, parts, api, stop_s)
    if requests.session is not None and requests.turn is not None:
        columns |= {"session": requests.session, "turn": requests.turn}
    columns |= parts[0].claims
    if stop_s == inf:
        stop_s = float(np.nanmax(columns["finish_s"], initial=end_s))
    logs = [log for _, log in sorted((n, log) for part in parts for n, log in part.logs.items())]
    short = all(log.step_end_s.in_memory() for log in logs)

    def column(tapes: Iterable[Tape], kind: npt.DTypeLike) -> Column | Tape:
        """Join the pieces of one column, in memory where the steps are few."""
        return joined(tapes, kind).array() if short else joined(tapes, kind)

    def times(name: str) -> Column | Tape:
        """Join a column of times of all replicas, seconds."""
        return column((getattr(log, name) for log in logs), np.float64)

    first_steps = accumulate((len(log.step_end_s) for log in logs[:-1]), initial=0)

    return Result(
        requests=columns,
        segments={
            name: column((log.segments[name] for log in logs), kind)
            for name, kind in SEGMENT_TYPES.items()
        }
        | {
            name: column((log.drafts[name] for log in logs), kind)
            for name, kind in (DRAFT_TYPES.items() if any(log.drafts for log in logs) else ())
        },
        step_end_s=times("step_end_s"),
        seen_s=times("seen_s") if api.loop_output_s else None,
        resumed_gap_s=times("resumed_gap_s"),
        resumed_end_s=times("resumed_end_s"),
        returned_step=np.concatenate(
            [first + log.returned_step for first, log in zip(first_steps, logs, strict=True)]
        ),
        gaps=column((log.gaps for log in logs), np.int64),
        reads=tuple(log.reads for log in logs),
        replicas=_replica_columns(logs, parts),
        end_s=stop_s,
        closed_loop=requests.users is not None,
        users=requests.users or 0,
    )


def _replica_columns(logs: SequenceOf[Log], parts: SequenceOf[Part]) -> dict[str, Column]:
    """One row per replica: see ``REPLICA_COLUMNS``."""
    by_number = {number: each for part in parts for number, each in part.blocks.items()}
    blocks = [by_number[number] for number in sorted(by_number)]
    columns = {
        "num_gpu_blocks": [each.num_gpu_blocks for each in blocks],
        "blocks_held": [each.held for each in blocks],
        "segments": [len(log.segments["steps"]) for log in logs],
        "steps": [len(log.step_end_s) for log in logs],
        "resumed": [len(log.resumed_gap_s) for log in logs],
        "gaps": [len(log.gaps) for log in logs],
        "computed_prefill_tokens": [log.computed_prefill_tokens for log in logs],
    }
    tables = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    tables |= replica_columns([each.tier for each in blocks])
    return tables | store_columns([each.store for each in blocks])


def _request_columns(
    requests: Requests, parts: SequenceOf[Part], api: ApiTime, stop_s: float
) -> dict[str, Column]:
    outcomes, rows = _outcomes(parts, len(requests)), len(requests)
    status, finish_s = outcomes["status"], outcomes["finish_s"]
    first_token_s = outcomes["first_token_s"]
    given_up = status == TIMED_OUT
    timed_out_s: Column = np.broadcast_to(np.nan, rows)
    if given_up.any():
        timed_out_s = np.where(given_up, finish_s, np.nan)
        finish_s[given_up] = np.nan
    # What was under way to the client when it gave up, or the clock stopped, it never had.
    streaming_s: Column = np.zeros(rows)
    if api.loop_output_s:
        streaming_s = _streamed(parts, outcomes["replica"], first_token_s, finish_s)
    finish_s += api.output_s
    first_token_s += api.output_s
    first_token_s[(first_token_s >= timed_out_s) | (first_token_s > stop_s)] = np.nan
    status[finish_s > stop_s] = UNFINISHED
    finish_s[finish_s > stop_s] = np.nan
    arrival_s = requests.arrival_s if parts[0].arrival_s is None else parts[0].arrival_s
    sent_s = arrival_s if parts[0].sent_s is None else parts[0].sent_s
    reached_s = parts[0].reached_s
    if reached_s is None:
        replicas = sum(len(part.logs) for part in parts)
        reached_s = all_reached_s(api, replicas, sent_s, requests.prompt_tokens) if api else sent_s
    return {
        "request": np.arange(rows, dtype=np.int64),
        "arrival_s": arrival_s,
        "sent_s": sent_s,
        "reached_s": reached_s,
        "prompt_tokens": requests.prompt_tokens,
        "output_tokens": requests.output_tokens,
        "priority": requests.priority,
        "replica": outcomes["replica"],
        "first_scheduled_s": outcomes["first_scheduled_s"],
        "first_token_s": first_token_s,
        "streaming_s": streaming_s,
        "finish_s": finish_s,
        "timed_out_s": timed_out_s,
        "computed_s": outcomes["computed_s"],
        "lost_s": outcomes["lost_s"],
        "paused_s": outcomes["paused_s"],
        "preemptions": outcomes["preemptions"],
        "cached_tokens": outcomes["cached_tokens"],
        "status": status,
        **{name: outcomes[name] for name in (*HANDOVER_COLUMNS, *TIER_COLUMNS) if name in outcomes},
    }


def _streamed(
    parts: SequenceOf[Part], replica: Column, first_token_s: Column, finish_s: Column
) -> Column:
    """Move ends of steps to when clients see their tokens; return by how much the first one."""
    ended_s = first_token_s.copy()
    for number, log in ((n, log) for part in parts for n, log in part.logs.items()):
        rows = np.flatnonzero(replica == number)
        own = [(times_s, times_s[rows]) for times_s in (first_token_s, finish_s)]
        for start in range(0, len(log.step_end_s), STEPS):
            ends_s, seen_s = (tape[start : start + STEPS] for tape in (log.step_end_s, log.seen_s))
            for times_s, own_s in own:
                here = (own_s >= ends_s[0]) & (own_s <= ends_s[-1])
                times_s[rows[here]] = seen_at(own_s[here], ends_s, seen_s)
    moved: Column = first_token_s - ended_s
    moved[np.isnan(moved)] = 0.0
    return moved


def _outcomes(parts: SequenceOf[Part], rows: int) -> dict[str, Column]:
    """The outcomes of all requests in one column each."""
    if parts[0].rows is None:
        return parts[0].outcomes
    outcomes = no_outcomes(rows)
    if "brought_tokens" in parts[0].outcomes:
        outcomes |= tier_outcomes(rows)
    for part in parts:
        for name, column in outcomes.items():
            column[part.rows] = part.outcomes[name]
    return outcomes
