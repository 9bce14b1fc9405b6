"""vLLM's own scheduler and KV cache manager, step by step: one scenario.

Runs where vLLM is. Times are whole ticks, so that no rounding can hide or make a difference.
"""

import math
from collections import deque
from importlib import import_module
from typing import Any

from experiments.witness.vllm_objects import Json, block_hasher, known

import numpy as np  # isort: skip
from vllm.sampling_params import SamplingParams  # isort: skip
from vllm.v1.outputs import ModelRunnerOutput  # isort: skip
from vllm.v1.request import Request, RequestStatus  # isort: skip

DraftTokenIds: Any = getattr(import_module("vllm.v1.outputs"), "DraftTokenIds", None)
TOKENS = (
    np.array
    if "ndarray" in str(ModelRunnerOutput.__dataclass_fields__["sampled_token_ids"].type)
    else list
)
"""Sampled tokens of a request are an array in 0.11.1 and 0.11.2."""
OWN = 1 << 20
"""Streams from here on are a request's own."""
EMPTY_PLANS = 3
"""vLLM goes on planning; after so many that are empty nothing comes of it."""


def text(scenario: Json, row: int) -> list[int]:
    """The tokens of a request, answer included: each of a stream that others may share, or own."""
    _, prompt, output, _, streams = scenario["requests"][row]
    tokens: list[int] = []
    for stream, end in streams:
        tokens += [(stream << 20) + place for place in range(len(tokens), end)]
    own = (OWN + row) << 20
    return tokens + [own + place for place in range(len(tokens), prompt + output)]


class Run:
    """One scenario: the clock, the requests, and what became of them."""

    def __init__(self, scenario: Json, engine: Any) -> None:
        self.scenario, self.engine = scenario, engine
        self.rows = scenario["requests"]
        self.texts = [text(scenario, row) for row in range(len(self.rows))]
        self.hasher: Json = block_hasher(scenario["block_size"]) if scenario["caching"] else {}
        self.drafts: Json = scenario.get("drafts") or {}
        self.propose: tuple[Any, list[str]] = (None, [])
        self.alive: dict[str, Any] = {}
        self.arrived = self.given_up = 0
        self.now = self.free = 0
        count = len(self.rows)
        self.first: list[int | None] = [None] * count
        self.finish: list[int | None] = [None] * count
        self.hits: list[int | None] = [None] * count
        self.preemptions = [0] * count
        self.thrown_out: set[str] = set()
        self.counted: set[int] = set()
        """Whose last time is among ``preemptions``."""
        self.preempted = False
        """Whether the last plan threw somebody out."""
        self.known = [0] * count  # tokens that the model runner has, or will have had
        self.prefills = [True] * count
        self.steps: list[list[int]] = []
        self.host: Any = None
        if scenario.get("store"):
            from experiments.witness.below import Below  # releases that have it

            self.host = Below(scenario, engine, self.texts)
        elif scenario.get("host"):
            from experiments.witness.host import Host

            self.host = Host(scenario["host"], engine)

    def serve(self) -> Json:
        """Run to the end."""
        (self._ahead if self.scenario["ahead"] else self._in_step)()
        return {
            "first": self.first, "finish": self.finish, "hits": self.hits,
            "preemptions": self.preemptions, "steps": self.steps,
        }  # fmt: skip

    # --- what comes in
    def _inputs(self) -> None:
        """Arrivals, and requests that are given up, until now."""
        rows = self.rows
        while self.arrived < len(rows) and rows[self.arrived][0] <= self.now:
            row = self.arrived
            self.arrived += 1
            _, prompt, output, priority, _ = rows[row]
            sampling = SamplingParams(max_tokens=output, ignore_eos=True, temperature=0.0)
            name = f"{row:06d}"
            asked = {"request_id": name, "prompt_token_ids": self.texts[row][:prompt],
                     "sampling_params": sampling, "pooling_params": None, "eos_token_id": None,
                     "arrival_time": float(row), "priority": priority, "client_index": 0,
                     "multi_modal_inputs": None, "multi_modal_hashes": None, "mm_kwargs": None,
                     "mm_hashes": None, "multi_modal_kwargs": None, "mm_features": None,
                     "multi_modal_placeholders": None, "mm_positions": None, "lora_request": None,
                     **self.hasher}  # fmt: skip
            request = Request(**known(Request, asked))
            self.engine.add_request(request)
            self.alive[name] = request
            self.known[row] = prompt
        self._aborts()

    def _deadline(self, row: int) -> float:
        timeout = self.scenario["timeout"]
        return math.inf if timeout is None else self.rows[row][0] + timeout

    def _aborts(self) -> None:
        names = []
        while self.given_up < self.arrived and self._deadline(self.given_up) <= self.now:
            names.append(f"{self.given_up:06d}")
            self.given_up += 1
        names = [name for name in names if name in self.alive]
        for name in names:  # one by one: vLLM makes a set of them, whose order is by chance
            self.engine.finish_requests(name, RequestStatus.FINISHED_ABORTED)
            del self.alive[name]
            self.thrown_out.discard(name)

    def _next_input(self) -> float | None:
        due: list[float] = [self.rows[self.arrived][0]] if self.arrived < len(self.rows) else []
        if self.given_up < self.arrived and self.scenario["timeout"] is not None:
            due.append(self._deadline(self.given_up))
        if self.host is not None and (then := self.host.next()) is not None:
            due.append(then)
        return min(due, default=None)

    def _wait(self) -> bool:
        """Go on to the next input; say whether there is any."""
        then = self._next_input()
        if then is None:
            if self.alive:
                raise RuntimeError(f"stuck with {len(self.alive)} requests")
            return False
        self.now = max(self.now, int(then))
        if self.host is not None:
            self.engine._update_from_kv_xfer_finished(self.host.output(self.now))
        return True

    # --- steps
    def _plan(self) -> tuple[Any, list[str], list[int], int]:
        """Ask for a step: the plan, who is in it, who gets a token by it, its ticks."""
        if self.host is not None:
            self.host.at(self.now)
        plan = self.engine.schedule()
        price = self.scenario["price"]
        names = list(plan.num_scheduled_tokens)
        samples, decodes, rows, context, chunks, tokens, pairs = [], 0, 0, 0, 0, 0, 0
        for name in names:
            count, row = plan.num_scheduled_tokens[name], int(name)
            request = self.alive.get(name) or self.engine.requests[name]
            past = request.num_computed_tokens - count
            if name in self.thrown_out:
                self.thrown_out.remove(name)
                self.known[row], self.prefills[row] = request.num_tokens, True
            if self.hits[row] is None and self._deadline(row) > max(self.now, self.free):
                self.hits[row] = past
            first = self.prefills[row]
            if first:
                chunks, tokens = chunks + 1, tokens + count
                pairs += count * past + count * (count + 1) // 2
            else:
                decodes, context, rows = decodes + 1, context + past + 1, rows + count
            if self.drafts:
                samples.append(past + count >= self.known[row] if first else 2)
            else:
                samples.append(past + count >= self.known[row])
                self.known[row] += samples[-1]
            if samples[-1]:
                self.prefills[row] = False
        self._note_preemptions()
        ticks = price["step"] + price["token"] * (rows + tokens)
        ticks += price["sequence"] * (decodes + chunks)
        ticks += price["position"] * context + price["pair"] * pairs
        if names:
            self.steps.append([decodes, chunks, tokens])
        return plan, names, samples, ticks if names else 0

    def _update(self, plan: Any, names: list[str], samples: list[int]) -> None:
        """A step has been computed, now."""
        sampled = []
        for name, has_token in zip(names, samples, strict=True):
            row = int(name)
            request = self.alive.get(name)
            if request is None or not has_token:
                sampled.append(TOKENS([7] if has_token else []))
                continue
            place = self.rows[row][1] + request.num_output_tokens
            gained = 1
            if has_token == 2:  # verified drafts, and one token behind those that are right
                right = self.drafts["accepted"][row][request.num_output_tokens]
                gained += min(right, len(plan.scheduled_spec_decode_tokens.get(name, ())))
            text = self.texts[row][place : place + gained]
            sampled.append(TOKENS(text + [7] * (gained - len(text))))
        output = {
            "req_ids": names, "req_id_to_index": {name: at for at, name in enumerate(names)},
            "sampled_token_ids": sampled, "spec_token_ids": None, "logprobs": None,
            "prompt_logprobs_dict": {}, "pooler_output": [], "finished_sending": None,
            "finished_recving": None,
            "kv_connector_output": self.host and self.host.output(self.now),
        }  # fmt: skip
        self.propose = (plan, [name for name in names if name in self.alive])
        before = {name: self.alive[name].num_output_tokens for name in names if name in self.alive}
        self.engine.update_from_output(plan, ModelRunnerOutput(**known(ModelRunnerOutput, output)))
        for name, tokens in before.items():
            request, row = self.alive[name], int(name)
            late = self._deadline(row) <= self.now
            if request.num_output_tokens > tokens and self.first[row] is None and not late:
                self.first[row] = self.now
            if request.is_finished():
                del self.alive[name]
                if self.drafts and name in self.thrown_out:
                    self.preemptions[row] -= row in self.counted  # its last token was under way
                if not late:
                    self.finish[row] = self.now

    def _take_drafts(self) -> None:
        """As ``EngineCore.post_step``: what the drafter made of the last step."""
        plan, names = self.propose
        tokens: Any = getattr(plan, "num_spec_tokens_to_schedule", self.drafts["tokens"])
        drafts = [[7] * tokens for _ in names]
        self.engine.update_draft_token_ids(DraftTokenIds(names, drafts))

    def _note_preemptions(self) -> None:
        """Whoever was thrown out by the plan that was just made."""
        before = len(self.thrown_out)
        for name, request in self.alive.items():
            if request.status == RequestStatus.PREEMPTED and name not in self.thrown_out:
                self.thrown_out.add(name)
                row = int(name)  # one whose last token is under way loses nothing
                ends = self.known[row] == sum(self.rows[row][1:3])
                if not ends and self._deadline(row) > max(self.now, self.free):
                    self.preemptions[row] += 1
                    self.counted.add(row)
                else:
                    self.counted.discard(row)
        self.preempted = len(self.thrown_out) > before

    def _in_step(self) -> None:
        """As ``EngineCore.step``: plan, compute, learn."""
        idle = 0
        while True:
            self._inputs()
            ended = self.host is not None and self.engine.has_requests()  # it plans once more
            if not self.alive and not ended:
                if not self._wait():
                    return
                continue
            plan, names, samples, ticks = self._plan()
            if self.host is not None:
                self.host.planned(plan, self.now)
            if not names and not self.preempted:
                self._update(plan, names, samples)
                idle += 1
                waits = self.host is not None and (self.alive or self.host.restless())
                if waits and idle < EMPTY_PLANS:
                    continue
                idle = 0
                if not self._wait():
                    return
                continue
            idle = 0
            self.now += ticks
            self._aborts()
            self._update(plan, names, samples)
            if self.drafts and names:
                self._take_drafts()

    def _ahead(self) -> None:
        """As ``EngineCore.step_with_batch_queue`` with a queue of two batches."""
        queue: deque[tuple[Any, list[str], list[int], int]] = deque()
        idle = 0
        while True:
            self._inputs()
            if idle < EMPTY_PLANS and self.engine.has_requests():
                plan, names, samples, ticks = self._plan()
                idle = 0 if names else idle + 1
                if self.host is not None:
                    self.host.planned(plan, max(self.free, self.now))
                if names:
                    self.free = max(self.free, self.now) + ticks
                queue.append((plan, names, samples, self.free if names else self.now))
                if len(queue) < 2 and (names or self.engine.has_requests()):
                    continue
            elif not queue:
                idle = 0
                if not self._wait():
                    return
                continue
            plan, names, samples, end = queue.popleft()
            self.now = max(self.now, end)
            if names:
                self._aborts()
            self._update(plan, names, samples)
