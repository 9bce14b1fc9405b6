"""vLLM v0's scheduler behind the interface of v1's, for releases that still have it (0.10)."""

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from experiments.witness.vllm_objects import MAX_MODEL_LEN, Json, known

from vllm.config import CacheConfig, SchedulerConfig  # isort: skip
from vllm.v1.request import RequestStatus  # isort: skip


def lacking() -> list[str]:
    """Its name, where this release does not have it any more."""
    return ["prefill_first"] if find_spec("vllm.core") is None else []


class Scheduler:
    """Whole prompts or all decodes; v1's requests are kept beside v0's groups of sequences."""

    def __init__(self, scenario: Json) -> None:
        size, blocks = scenario["block_size"], scenario["blocks"]
        settings = SchedulerConfig(
            **known(SchedulerConfig, {
                "max_num_seqs": scenario["seats"], "max_num_batched_tokens": MAX_MODEL_LEN,
                "max_model_len": MAX_MODEL_LEN, "enable_chunked_prefill": False,
                "policy": scenario["order"],
            })
        )  # fmt: skip
        settings.max_num_batched_tokens = scenario["budget"]
        cache: Any = CacheConfig(
            block_size=16, enable_prefix_caching=False, **known(CacheConfig, {"swap_space": 0})
        )
        cache.block_size, cache.num_gpu_blocks, cache.num_cpu_blocks = size, blocks, 0
        self.scheduler = import_module("vllm.core.scheduler").Scheduler(settings, cache, None)
        self.size = size
        self.of_v0 = import_module("vllm.sequence")
        self.token_inputs = import_module("vllm.inputs.data").token_inputs
        self.requests: dict[str, Any] = {}
        self.groups: dict[str, Any] = {}

    def add_request(self, request: Any) -> None:
        """Queue it."""
        name = request.request_id
        inputs = self.token_inputs(list(request.prompt_token_ids))
        sequence = self.of_v0.Sequence(int(name), inputs, self.size)
        group = self.of_v0.SequenceGroup(
            name, [sequence], request.arrival_time, request.sampling_params
        )
        self.requests[name], self.groups[name] = request, group
        self.scheduler.add_seq_group(group)

    def finish_requests(self, name: str, status: RequestStatus) -> None:
        """Drop one."""
        self.scheduler.abort_seq_group(name)
        self.requests.pop(name).status = status
        del self.groups[name]

    def schedule(self) -> SimpleNamespace:
        """Plan a step."""
        _, outputs, _ = self.scheduler.schedule()
        if outputs.ignored_seq_groups or outputs.blocks_to_swap_out:
            raise RuntimeError("v0 ignored or swapped a request: not compared")
        planned = {}
        for each in outputs.scheduled_seq_groups:
            name = each.seq_group.request_id
            prefill = each.seq_group.is_prefill()
            planned[name] = each.token_chunk_size if prefill else 1
            self.requests[name].num_computed_tokens += planned[name]
            self.requests[name].status = RequestStatus.RUNNING
        for name, group in self.groups.items():
            request = self.requests[name]
            waits = group.first_seq.status == self.of_v0.SequenceStatus.WAITING
            if waits and request.status == RequestStatus.RUNNING:
                request.status, request.num_computed_tokens = RequestStatus.PREEMPTED, 0
        return SimpleNamespace(num_scheduled_tokens=planned)

    def update_from_output(self, plan: SimpleNamespace, output: Any) -> None:
        """Take the tokens of a step."""
        for name, count in plan.num_scheduled_tokens.items():
            if name not in self.requests:
                continue
            (token,) = output.sampled_token_ids[output.req_id_to_index[name]]
            request, sequence = self.requests[name], self.groups[name].first_seq
            sequence.data.update_num_computed_tokens(count)
            sequence.append_token_id(token, {token: self.of_v0.Logprob(0.0)}, None)
            request.append_output_token_ids([token])
            if request.num_output_tokens == request.max_tokens:
                sequence.status = self.of_v0.SequenceStatus.FINISHED_LENGTH_CAPPED
                request.status = RequestStatus.FINISHED_LENGTH_CAPPED
                del self.requests[name], self.groups[name]
        self.scheduler.free_finished_seq_groups()
