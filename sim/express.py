"""The steps that nearly all are, in one function, because calls would cost more than the work.

Chunked prefill in order of arrival, while blocks suffice: what ``sim.replica`` does step by step
together with its scheduler (``sim.chunked_prefill``, ``sim.decoding``), prices and recorder is done
here to the same lists and counters, without a call for each of them. Whatever is out of the
ordinary is left to the main loop. A run comes out the same, to the bit, without this module.
"""

from collections.abc import Generator
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from simpy.events import Event

from hardware.step_cost import VECTOR_STEPS
from sim.async_scheduling import AsyncChunkedPrefill
from sim.chunked_prefill import ChunkedPrefill
from sim.recorder import pack_chunk, pack_segment
from sim.scheduler import Scheduler
from sim.sequence import NOBODY, Sequence
from sim.waiting import FirstCome

if TYPE_CHECKING:
    from sim.replica import Replica


def goes_express(scheduler: Scheduler) -> bool:
    """Whether the steps of a scheduler are what ``express`` can do."""
    fcfs = isinstance(scheduler.waiting, FirstCome)
    plain = type(scheduler) in (ChunkedPrefill, AsyncChunkedPrefill)
    return plain and fcfs and scheduler.decoding.window is None


def express(
    replica: "Replica", now_s: float, idle: bool
) -> Generator[Event, None, tuple[float, bool]]:
    """Do steps from ``now_s`` on; return at the end of one behind which something else is due.

    That is: nobody to compute, somebody to be thrown out for want of blocks, or an abort. Of that
    next step nothing has been done then, but that its chunks may be in the scheduler's batch.

    Returns:
        The time, and whether the replica is idle (as given, if no step was done).
    """
    clock, scheduler, price, recorder = (
        replica.clock, replica.scheduler, replica.price, replica.recorder
    )  # fmt: skip
    assert isinstance(scheduler, ChunkedPrefill)
    assert isinstance(scheduler.waiting, FirstCome)
    pool, decoding, batch = scheduler.pool, scheduler.decoding, scheduler.batch
    waiting, running, prefilling = scheduler.waiting, scheduler.running, scheduler.prefilling
    token_budget, longest_chunk = scheduler.token_budget, scheduler.longest_of_many
    longest_alone, whole_prompts_fit = scheduler.longest_alone, scheduler.whole_prompts_fit
    depends = longest_alone != longest_chunk
    seats, watermark_blocks = scheduler.max_num_seqs, scheduler.watermark_blocks
    num_blocks, size, top = pool.num_blocks, pool.block_size, pool.block_size - 1
    needs, calendar, dates = decoding.needs, decoding.calendar, decoding.dates
    ends_s, segments, chunk_rows = recorder.step_end_s, recorder.segments, recorder.chunks
    token_s, sequence_s, first_chunk_s = price.token_s, price.sequence_s, price.first_chunk_s
    decode_s, pieces, put_end = price.decode_s, price.decode_pieces, ends_s.append
    due, stop_s, aborted = clock.due, clock.stop_s, replica.aborted
    # Planning ahead, who arrives and who ends is known to the plan after the next.
    ahead_of_time = isinstance(scheduler, AsyncChunkedPrefill)
    arrived: list[Sequence] | FirstCome = waiting
    leaving: list[Sequence] = []
    if isinstance(scheduler, AsyncChunkedPrefill):
        arrived, leaving = scheduler.arrived, scheduler.leaving
        if scheduler.unwanted:
            return now_s, idle
    batch.clear()
    prefills, chunks = batch.prefills, batch.chunks
    # What changes from step to step; the owners are told where somebody else may look.
    step, count, context, free = (
        decoding.step, decoding.count, decoding.context_tokens, pool.free
    )  # fmt: skip
    row, begun = recorder.next_row(), recorder.steps
    finished: list[Sequence] | None = None
    arrivals, arrival = replica.arrivals, replica.arrival
    while True:
        # Form the batch: see Scheduler._ready_decodes, ChunkedPrefill._continue_prompts and
        # ._start_prompts, Scheduler._add_decodes.
        place = step % size
        left = free - needs[place]
        if left < 0:
            break
        if prefilling or waiting:
            attention_s = 0.0 if count else price.chunk_cost.launch_s
            budget = token_budget - count
            if depends:
                alone = len(running) + len(waiting) == 1
                longest_chunk = longest_alone if alone else scheduler.longest_of_many
            for sequence in prefilling:
                if budget <= 0:
                    break
                past = sequence.kv_tokens
                chunk = min(sequence.target_tokens - past, budget, longest_chunk)
                left += (past + top) // size - (past + chunk + top) // size
                prefills.append(sequence)
                chunks.append((chunk, past))
                attention_s += price.chunk_s(chunk, past)
                budget -= chunk
            if left < 0:
                break
            while waiting:
                if budget <= 0 or len(running) >= seats:
                    break
                sequence = waiting[0]
                chunk = target = sequence.target_tokens
                if chunk > budget or chunk > longest_chunk:
                    chunk = min(budget, longest_chunk)
                reserved = target if whole_prompts_fit else chunk
                if left - (reserved + top) // size < (watermark_blocks if running else 0):
                    break
                left -= (chunk + top) // size
                running[waiting.popleft()] = None
                if sequence.first_scheduled_s < 0.0:
                    sequence.first_scheduled_s = now_s
                if chunk < target:  # others never are, as they decode when the step has ended
                    prefilling.append(sequence)
                prefills.append(sequence)
                chunks.append((chunk, 0))
                known = chunk in first_chunk_s
                attention_s += first_chunk_s[chunk] if known else price.chunk_s(chunk, 0)
                budget -= chunk

        learns = ahead_of_time and bool(arrived or leaving)
        if learns:  # see AsyncChunkedPrefill.next_batch
            for sequence in leaving:
                left += (sequence.kv_tokens + top) // size
                del running[sequence]
            leaving.clear()
            waiting += arrived
            arrived.clear()
            if not (chunks or count):
                free = left
                continue

        # Price it: see Replica.run, StepCost.step_s and .decode_ends_s.
        start_s = now_s
        if idle:
            start_s += price.idle_start_s
        if chunks:
            if count:
                for least, flat_s, slope_s in pieces[count]:
                    if context >= least:
                        attention_s += flat_s + slope_s * context
                        break
            now_s = start_s + (
                price.overhead_s
                + token_s[token_budget - budget]
                + sequence_s[count + len(chunks)]
                + attention_s
            )
            put_end(now_s)
        elif count:
            is_open = not waiting and len(running) < seats
            first = dates[0]
            ahead = first - step
            if learns:
                ahead = 1
            elif left < count * ((ahead + size - 2) // size) or not calendar[first]:
                decoding.step, decoding.count = step, count
                ahead = decoding.steps_ahead(left)
            until_s = arrival.arrival_s if is_open else inf
            least, flat_s, slope_s = pieces[count][0]
            if ahead < VECTOR_STEPS and context >= least:
                base_s, attended, now_s = decode_s[count], context, start_s
                for _ in range(ahead):
                    now_s += base_s + (flat_s + slope_s * attended)
                    put_end(now_s)
                    if now_s >= until_s:
                        break
                    attended += count
            else:
                now_s = price.decode_ends_s(start_s, count, context, count, ahead, until_s, ends_s)
        else:
            break
        idle = False
        if now_s > stop_s or (due and now_s >= due[0][0]):
            if chunks:
                ahead, is_open = 1, True
            decoding.step, decoding.context_tokens, pool.free = step, context, left
            decoding.count = decoding.growth = batch.decodes = batch.growth = count
            batch.context_tokens, batch.steps, batch.open = context, ahead, is_open
            replica.batch, replica.start_s, recorder.steps = batch, start_s, begun
            replica.arrival = arrival
            yield replica.sleep_until(now_s)
            replica.wake, now_s = None, clock.now
        while arrival.arrival_s <= now_s:
            scheduler.tokens_to_prefill += arrival.target_tokens
            arrived.append(arrival)
            arrival = next(arrivals, NOBODY)

        # Complete it: see Scheduler.complete, DecodeSet.advance and .join, ReplicaRecorder.end.
        at_once = None
        if chunks:
            steps, joined, joined_context = 1, 0, 0
            if count:
                step += 1
            free = left
            for each, sequence in enumerate(prefills):
                chunk, past = chunks[each]
                chunk_rows += pack_chunk(chunk, past)
                sequence.kv_tokens = kv_tokens = past + chunk
                if kv_tokens < sequence.target_tokens:
                    continue
                if past:
                    prefilling.remove(sequence)
                scheduler.tokens_to_prefill -= kv_tokens
                if sequence.first_token_s < 0.0:
                    sequence.first_token_s = now_s
                else:
                    recorder.resumed(sequence, now_s)
                sequence.generated_tokens = generated = sequence.generated_tokens + 1
                finish = step + sequence.output_tokens - generated
                if finish == step:
                    at_once = at_once or []
                    at_once.append(sequence)
                    if not ahead_of_time:
                        free += (kv_tokens + top) // size
                        del running[sequence]
                    continue
                sequence.joined_row, sequence.joined_step, sequence.finish_step = row, step, finish
                needs[(step - kv_tokens) % size] += 1
                joined_context += kv_tokens + 1
                joined += 1
                if finish in calendar:
                    calendar[finish].append(sequence)
                else:
                    calendar[finish] = [sequence]
                    heappush(dates, finish)
            segments += pack_segment(
                start_s, now_s, 1, count, 0, len(chunks), joined, num_blocks - left, count, context
            )
            context += count + joined_context
            chunks.clear()
            prefills.clear()
        else:
            steps, joined = len(ends_s) - begun, 0
            step += steps
            if steps > 1:
                place += 1
                if place + steps <= size + 1:
                    left -= sum(needs[place : place + steps - 1])
                else:
                    decoding.step, decoding.count = step - steps, count
                    left -= decoding.blocks_needed_after(steps - 1)
            free = left
            segments += pack_segment(
                start_s, now_s, steps, count, 0, 0, 0, num_blocks - left, count, context
            )
            context += steps * count
        begun += steps
        row += 1
        finished = at_once
        if count and dates[0] <= step:
            finished = calendar.pop(heappop(dates))
            for sequence in finished:
                kv_tokens = sequence.kv_tokens + step - sequence.joined_step
                needs[(step - kv_tokens) % size] -= 1
                context -= kv_tokens + 1
                sequence.finish_step = -1
                if ahead_of_time:
                    sequence.kv_tokens = kv_tokens
                else:
                    free += (kv_tokens + top) // size
                    del running[sequence]
            count -= len(finished)
            if at_once:
                finished += at_once
        count += joined
        if finished:
            if ahead_of_time:
                leaving += finished
            if not aborted:
                clock.now_is(now_s)
                recorder.steps, decoding.context_tokens = begun, context
                replica.on_finish(finished, replica.number, now_s)
                begun = recorder.steps
        if aborted:
            break

    decoding.step, decoding.context_tokens, pool.free = step, context, free
    decoding.count = decoding.growth = count
    recorder.steps, replica.arrival = begun, arrival
    clock.now_is(now_s)
    if aborted:
        replica.drop_aborted()
        if finished:
            replica.on_finish(finished, replica.number, now_s)
    return now_s, idle
