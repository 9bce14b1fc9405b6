"""Times whole steps of vLLM's engine core, of any shape.

    python -m experiments.witness.served.steps_driver SETTINGS_JSON < shapes > seconds

Runs inside an environment that has vLLM. The engine core is the server's, with its scheduler, its
executor and its worker process; requests come from here instead of a socket. One shape per line of
JSON comes in, ``{"contexts": [...], "chunks": [[tokens, past], ...]}``; one line goes out, the
seconds of the step twice: after another shape, and after itself.
"""

import json
import os
import sys
import time
from typing import Any

from vllm.engine.arg_utils import EngineArgs  # isort: skip
from vllm.sampling_params import SamplingParams  # isort: skip
from vllm.v1.engine import EngineCoreRequest  # isort: skip
from vllm.v1.engine.core import EngineCore  # isort: skip
from vllm.v1.executor import Executor  # isort: skip

LONG = 1 << 20
"""Tokens that nobody reaches."""


class Engine:
    """An engine core, and texts whose beginnings are in its prefix cache."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.vocabulary, self.rows = settings.pop("vocabulary"), settings["max_num_seqs"]
        self.longest: int = settings["max_model_len"]
        config = EngineArgs(**settings, enable_prefix_caching=True).create_engine_config()
        self.core = EngineCore(config, Executor.get_class(config), log_stats=True)
        self.scheduler: Any = self.core.scheduler
        self.budget: int = self.scheduler.max_num_scheduled_tokens
        self.drawn = self.named = 0
        self.texts = [self.fresh(self.longest) for _ in range(self.rows)]
        self.planned: dict[str, int] = {}
        self._schedule, self.scheduler.schedule = self.scheduler.schedule, self._noted

    def _noted(self, *given: Any) -> Any:
        plan = self._schedule(*given)
        self.planned = dict(plan.num_scheduled_tokens)
        return plan

    def fresh(self, tokens: int) -> list[int]:
        """Tokens that no text has had in this order."""
        found = []
        for _ in range(tokens):
            self.drawn = (self.drawn * 6364136223846793005 + 1442695040888963407) % 2**64
            found.append(3 + (self.drawn >> 33) % (self.vocabulary - 3))
        return found

    def add(self, prompt: list[int], output: int) -> str:
        """Queue a request."""
        self.named += 1
        sampling = SamplingParams(
            max_tokens=output, ignore_eos=True, temperature=0.0, skip_clone=True
        )
        request = EngineCoreRequest(
            request_id=str(self.named), prompt_token_ids=prompt, mm_features=None,
            sampling_params=sampling, pooling_params=None, arrival_time=time.time(),
            lora_request=None, cache_salt=None, data_parallel_rank=None,
        )  # fmt: skip
        self.core.add_request(*self.core.preprocess_add_request(request))
        return str(self.named)

    def step(self) -> float:
        """One turn; return its seconds."""
        start_s = time.perf_counter()
        _, executed = self.core.step()
        self.core.post_step(executed)
        return time.perf_counter() - start_s

    def until_decoding(self, contexts: list[int]) -> list[str]:
        """Requests of which the next step decodes all, with these contexts."""
        names = [
            self.add(self.texts[row][: max(1, context - 1)], LONG // 2)
            for row, context in enumerate(contexts)
        ]
        while any(not self.scheduler.requests[name].num_output_tokens for name in names):
            self.step()
        return names

    def cached(self, past: int) -> None:
        """Have the beginnings of all texts in the cache."""
        for text in self.texts:
            self.add(text[:past], 1)
        while self.scheduler.has_requests():
            self.step()

    def timed(self, contexts: list[int], chunks: list[list[int]]) -> list[float]:
        """Seconds of one step of a shape, twice."""
        self.drop(list(self.scheduler.requests))
        seconds = []
        names = self.until_decoding(contexts)
        for _ in range(2):
            added = {
                self.add(self.texts[-1 - place][:past] + self.fresh(chunk), 1): chunk
                for place, (chunk, past) in enumerate(chunks)
            }
            seconds.append(self.step())
            wanted = dict.fromkeys(names, 1) | added
            if self.planned != wanted:
                raise RuntimeError(f"planned {self.planned}, expected {wanted}")
        self.drop(names)
        return seconds

    def drop(self, names: list[str]) -> None:
        """Give requests up."""
        self.core.abort_requests(names)
        while self.scheduler.has_requests():
            self.step()


def main() -> None:
    """Answer every line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is no answer
    engine = Engine(json.loads(sys.argv[1]))
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "cached" in asked:
            engine.cached(asked["cached"])
            print("{}", file=answers, flush=True)
            continue
        seconds = engine.timed(asked["contexts"], asked["chunks"])
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)
    engine.core.shutdown()


if __name__ == "__main__":
    main()
