"""vLLM's own engine core with pipeline stages: scheduler, queue of batches, and stages in ticks.

Runs where vLLM is. ``EngineCore.step_with_batch_queue`` is vLLM's own code; its executor is this
file: a batch passes the stages in order, and its future is done when the last one is. As vLLM's
model runners do, the first stage waits for tokens of steps before: the first runner
(``gpu_model_runner.py``, asynchronous scheduling) for those of the last step, the second one
(``gpu/pp_utils.py``) for those of the step that is as many further back as there are stages.
"""

from collections import deque
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.witness.stepwise import Run
from experiments.witness.vllm_objects import Json

from vllm.v1.engine.core import EngineCore  # isort: skip

NEVER = -1
"""Instead of the end of a step: nobody waits for its tokens."""


class Step:
    """What the executor promises: a future of one step."""

    def __init__(self, run: "Staged", names: list[str], samples: list[int], end: int) -> None:
        self.run, self.names, self.samples, self.end = run, names, samples, end

    def done(self) -> bool:
        """Whether the clock is at its end; a step that computes nothing always is."""
        return not self.names or self.end <= self.run.now

    def result(self) -> "Step":
        """Wait for it: the clock goes on to its end, in ticks."""
        if self.names:
            self.run.now = max(self.run.now, self.end)
        return self

    def add_done_callback(self, _: Any) -> None:
        """Nobody is told: the core looks at the future itself."""
        pass


class Staged(Run):
    """One engine with several steps under way: the core's executor, and its scheduler."""

    def __init__(self, scenario: Json, engine: Any) -> None:
        super().__init__(scenario, engine)
        self.ticks = scenario["stages"]
        self.ends = [0] * len(self.ticks)
        """When each stage is free."""
        config = engine.vllm_config
        self.spaced = getattr(engine, "use_v2_model_runner", False) and scenario["ahead"]
        self.waits = self.spaced or (scenario["ahead"] and first_runner_tells())
        self.told: deque[int] = deque([NEVER] * (len(self.ticks) if self.spaced else 1))
        self.plan: Any = None
        self.core = self._core(batches(config))

    def _core(self, size: int) -> Any:
        """An engine core around the scheduler."""
        core: Any = EngineCore.__new__(EngineCore)
        parts = {
            "scheduler": self, "model_executor": self, "batch_queue": deque(maxlen=size),
            "batch_queue_size": size, "is_pooling_model": False, "is_ec_producer": False,
            "is_ec_consumer": True, "is_mm_encoder_only": False, "use_spec_decode": False,
            "check_for_draft_tokens": False, "vllm_config": self.engine.vllm_config,
        }  # fmt: skip
        quiet = {
            "log_error_detail": lambda *_: nullcontext(),
            "capture_iteration_details": lambda *_: nullcontext(),
            "log_iteration_details": lambda *_: nullcontext(),
            "execute_model_with_error_logging": lambda call, plan: call(plan),
            "_log_err_callback": lambda *_: None,
            "_attach_iteration_details": lambda *_: None,
            "_attach_weight_version": lambda *_: None,
            "_should_throttle_prefills": lambda: False,
            "_process_aborts_queue": lambda: None,
        }
        for name, part in (parts | quiet).items():
            setattr(core, name, part)
        return core

    # --- what the core asks of its scheduler
    def has_requests(self) -> bool:
        """Whether anybody waits or runs."""
        return bool(self.engine.has_requests())

    def schedule(self, *_: Any) -> Any:
        """Plan the next step as every run does, and remember it for ``execute_model``."""
        self.plan = self._plan()
        return self.plan[0]

    def get_grammar_bitmask(self, *_: Any) -> None:
        """No answer has a grammar."""
        return None

    def update_from_output(self, plan: Any, step: Step) -> Json:
        """Write a step down that has ended, behind who left meanwhile; outputs go to nobody."""
        if step.names:
            self._aborts()
        self._update(plan, step.names, step.samples)
        return {}

    # --- and of its executor
    def execute_model(self, plan: Any, *_: Any, **__: Any) -> Step:
        """Send the step last planned through the stages, and return the future of its end."""
        assert self.plan[0] is plan
        _, names, samples, ticks = self.plan
        waits = self.waits and (self.spaced or bool(names))
        told = self.told.popleft() if waits else NEVER
        end = max(self.now, told)
        if names:
            for stage, share in enumerate(self.ticks):
                end = max(end, self.ends[stage]) + share * ticks
                self.ends[stage] = end
        if waits:
            self.told.append(end if self._tells(names, samples) else NEVER)
        self.last = Step(self, names, samples, end)
        return self.last

    def sample_tokens(self, *_: Any, **__: Any) -> Step:
        """Return the same future: sampling takes no time of its own."""
        return self.last

    def _tells(self, names: list[str], samples: list[int]) -> bool:
        """Whether the last stage sends tokens of a step to the first."""
        for name, has_token in zip(names, samples, strict=True):
            row = int(name)
            last = self.known[row] == sum(self.rows[row][1:3])
            first = self.known[row] == self.rows[row][1] + 1
            if has_token and not (self.spaced and last and (first or self.of_prompt[name])):
                return True
        return False

    def _plan(self) -> tuple[Any, list[str], list[int], int]:
        before, again = list(self.prefills), set(self.thrown_out)
        made = super()._plan()
        self.of_prompt = {name: before[int(name)] or name in again for name in made[1]}
        return made

    def serve(self) -> Json:
        """Run to the end."""
        idle = 0
        while True:
            self._inputs()
            queue = self.core.batch_queue
            if not queue and (idle > 20 or not self.engine.has_requests()):
                idle = 0
                if not self._wait():
                    break
                continue
            steps = len(self.steps)
            self.core.step_with_batch_queue()
            idle = (
                0 if len(self.steps) > steps or any(each[0].names for each in queue) else idle + 1
            )
        return {
            "first": self.first, "finish": self.finish, "hits": self.hits,
            "preemptions": self.preemptions, "steps": self.steps,
        }  # fmt: skip


def first_runner_tells() -> bool:
    """Whether the first model runner sends tokens of a step to the first stage."""
    found = find_spec("vllm.v1.worker.gpu_model_runner")
    assert found is not None
    assert found.origin is not None
    return "_pp_receive_prev_sampled" in Path(found.origin).read_text()


def batches(config: Any) -> int:
    """How many the queue holds, as the release says."""
    own = getattr(config, "max_concurrent_batches", None)
    if own is None:  # the executor says it
        executor = import_module("vllm.v1.executor.multiproc_executor").MultiprocExecutor
        asked = executor.__dict__["max_concurrent_batches"]
        look = getattr(asked, "fget", None) or asked.func
        parts = SimpleNamespace(
            parallel_config=config.parallel_config, scheduler_config=config.scheduler_config
        )
        own = look(parts)
    return int(own)
