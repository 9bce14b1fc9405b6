"""Two schedulers of vLLM with its NixlConnector: one prefills, the other one decodes, in ticks.

Runs where vLLM is. The schedulers and their side of the connector are vLLM's own; its workers are
this file: blocks are read from the start of the step that was planned with them, and both engines
are told when that is over. A prompt that is computed is handed over at once. A request that is
given up is dropped by the engine that has it, as soon as its step has ended; whose blocks nobody is
to read any more, is said by the connector.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from experiments.witness.stepwise import Run
from experiments.witness.vllm_objects import Config, Json, known

from vllm.sampling_params import SamplingParams  # isort: skip
from vllm.v1.outputs import KVConnectorOutput  # isort: skip
from vllm.v1.request import Request, RequestStatus  # isort: skip

IDLE = None
"""Instead of the end of a step: nothing to do until something comes."""


class Side(Run):
    """One engine, which goes on whenever its step has ended, or something has come."""

    def __init__(self, scenario: Json, engine: Any) -> None:
        super().__init__(scenario, engine)
        self.host: Any = self
        self.inbox: list[Any] = []
        self.came = 0
        self.sent: list[str] = []
        self.received: list[str] = []
        self.to_read: list[tuple[str, int, int]] = []  # who, blocks, from when on
        self.answers: dict[str, Json] = {}
        """What was said of each request that has ended."""
        self._learn, engine.update_from_output = engine.update_from_output, self._learned

    def _learned(self, plan: Any, output: Any) -> Any:
        said = self._learn(plan, output)
        for outputs in said.values():
            for one in outputs.outputs:
                if one.finish_reason is not None:
                    self.answers[one.request_id] = one.kv_transfer_params or {}
        return said

    def at(self, now: int) -> None:
        """It is time to plan: as of a host's memory, of which there is none."""

    def output(self, now: int) -> Any:
        """What the worker says: whose blocks were read here, and who has those of another one."""
        sent, received = dict.fromkeys(self.sent), dict.fromkeys(self.received)
        self.sent, self.received = [], []
        told: Json = {"finished_sending": sent or None, "finished_recving": received or None}
        return KVConnectorOutput(**told)

    def add(self, row: int, output: int, params: Json) -> None:
        """A request comes, now: later than those before it, whichever came first elsewhere."""
        self.came += 1
        _, prompt, _, priority, _ = self.rows[row]
        sampling = SamplingParams(
            max_tokens=output, ignore_eos=True, temperature=0.0,
            extra_args={"kv_transfer_params": params},
        )  # fmt: skip
        asked = {"request_id": f"{row:06d}", "prompt_token_ids": self.texts[row][:prompt],
                 "sampling_params": sampling, "pooling_params": None,
                 "arrival_time": float(self.came), "priority": priority, "client_index": 0,
                 "mm_features": None, "lora_request": None, **self.hasher}  # fmt: skip
        self.inbox.append(Request(**known(Request, asked)))

    def _inputs(self) -> None:
        for request in self.inbox:
            self.engine.add_request(request)
            self.alive[request.request_id] = request
            self.known[int(request.request_id)] = request.num_tokens
        self.inbox = []

        self._aborts()

    def _aborts(self) -> None:
        late = [name for name in self.alive if self._deadline(int(name)) <= self.now]
        for name in sorted(late):
            self.engine.finish_requests(name, RequestStatus.FINISHED_ABORTED)
            del self.alive[name]
            self.thrown_out.discard(name)

    def patience(self) -> float:
        """When the next of its requests is given up."""
        return min((self._deadline(int(name)) for name in self.alive), default=math.inf)

    def _planned(self, start: int) -> tuple[Any, list[str], list[int], int]:
        plan, names, samples, ticks = self._plan()
        for name, meta in plan.kv_connector_metadata.reqs_to_recv.items():
            self.to_read.append((name, sum(map(len, meta.local_block_ids)), start))
        return plan, names, samples, ticks

    def _told(self) -> None:
        self.engine._update_from_kv_xfer_finished(self.output(self.now))

    def in_step(self) -> Iterator[int | None]:
        """As ``EngineCore.step``."""
        while True:
            self._inputs()
            if not self.engine.has_requests():
                yield IDLE
                continue
            self._told()
            plan, names, samples, ticks = self._planned(self.now)
            if not names and not self.preempted:
                self._update(plan, names, samples)
                yield IDLE
                continue
            if names:
                yield self.now + ticks
                self._aborts()
            self._update(plan, names, samples)
            if self.drafts and names:
                self._take_drafts()

    def ahead(self) -> Iterator[int | None]:
        """As ``EngineCore.step_with_batch_queue`` with a queue of two batches."""
        queue: deque[tuple[Any, list[str], list[int], int]] = deque()
        idle = 0
        while True:
            self._inputs()
            if idle < 3 and self.engine.has_requests():
                plan, names, samples, ticks = self._planned(max(self.free, self.now))
                idle = 0 if names else idle + 1
                if names:
                    self.free = max(self.free, self.now) + ticks
                queue.append((plan, names, samples, self.free if names else self.now))
                if len(queue) < 2 and (names or self.engine.has_requests()):
                    continue
            elif not queue:
                idle = 0
                yield IDLE
                self._told()
                continue
            plan, names, samples, end = queue.popleft()
            if end > self.now:
                yield end
            if names:
                self._aborts()
            self._update(plan, names, samples)


class Pair:
    """A prompt goes to the first engine, and then to the second."""

    def __init__(self, scenario: Json, config: Config) -> None:
        told = scenario["handover"]
        sink = scenario | {name: told[name] for name in ("seats", "budget", "blocks")}
        self.ticks = told["ticks"]
        self.rows = scenario["requests"]
        self.sides = [Side(each, config.scheduler(each)) for each in (scenario, sink)]
        loops = [side.ahead() if scenario["ahead"] else side.in_step() for side in self.sides]
        self.loops = loops
        self.due = [next(loop) for loop in loops]
        self.brought = [0] * len(self.rows)
        self.under_way: list[tuple[int, int, str]] = []

    def serve(self) -> Json:
        """Run to the end. Whoever is left then, though nothing more happens, has no finish."""
        arrived = 0
        while True:
            times = [due for due in self.due if due is not None]
            times += [self.rows[arrived][0]] if arrived < len(self.rows) else []
            times += [end for end, _, _ in self.under_way]
            idle = [place for place in (0, 1) if self.due[place] is None]
            late = min((self.sides[place].patience() for place in idle), default=math.inf)
            if not times and late == math.inf:
                break
            now = min([*times, int(late)] if late < math.inf else times)
            poked = self._read(now)
            poked |= {place for place in idle if self.sides[place].patience() <= now}
            while arrived < len(self.rows) and self.rows[arrived][0] <= now:
                self.sides[0].add(arrived, 1, {"do_remote_decode": True})
                arrived += 1
                poked = {*poked, 0}
            for place in (0, 1):
                if self.due[place] == now or (self.due[place] is None and place in poked):
                    poked = {*poked, *self._go_on(place, now)}
            if self.sides[0].sent and self.due[0] is None:
                self._go_on(0, now)  # blocks that nobody is to read, as the second one says
        first, second = self.sides
        preemptions = [
            one + two for one, two in zip(first.preemptions, second.preemptions, strict=True)
        ]
        return {
            "first": second.first, "finish": second.finish, "hits": first.hits,
            "preemptions": preemptions, "steps": [*first.steps, [-1, -1, -1], *second.steps],
            "brought": self.brought,
        }  # fmt: skip

    def _read(self, now: int) -> set[int]:
        """Transfers are over; return who is told."""
        over = sorted(each for each in self.under_way if each[0] <= now)
        self.under_way = [each for each in self.under_way if each[0] > now]
        for _, _, name in over:
            self.sides[0].sent.append(name)
            self.sides[1].received.append(name)
        return {0, 1} if over else set()

    def _go_on(self, place: int, now: int) -> set[int]:
        """Let one engine go on; return who else has something to do."""
        side = self.sides[place]
        side.now = now
        self.due[place] = next(self.loops[place])
        for name, blocks, start in side.to_read:
            if not blocks:
                self.sides[0].sent.append(name)
                continue
            self.brought[int(name)] = blocks
            self.under_way.append((start + self.ticks, len(self.under_way), name))
        side.to_read = []
        if place:
            return set()
        for name, params in side.answers.items():
            self.sides[1].add(int(name), self.rows[int(name)][2], params)
        handed = {1} if side.answers else set()
        side.answers = {}
        return handed
