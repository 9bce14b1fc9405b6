"""The worker of vLLM's OffloadingConnector, in ticks: transfers, and when they have ended.

Runs where vLLM is. Each direction carries one transfer after the other.
"""

from types import MethodType
from typing import Any

from experiments.witness.vllm_objects import Json, known

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import (  # isort: skip
    OffloadingWorkerMetadata,
)
from vllm.v1.kv_offload.cpu.manager import CPUOffloadingManager  # isort: skip
from vllm.v1.outputs import KVConnectorOutput  # isort: skip


class Host:
    """The link of one engine to the memory of its host."""

    def __init__(self, settings: Json, engine: Any) -> None:
        self.settings, self.engine = settings, engine
        connector = engine.connector.connector_scheduler
        told = {"num_chunks": settings["chunks"], "cache_policy": settings["eviction_policy"],
                "store_threshold": settings["store_threshold"]}  # fmt: skip
        connector.manager = CPUOffloadingManager(**known(CPUOffloadingManager, told))
        connector.build_connector_meta = MethodType(_in_order(connector), connector)
        self.free = {False: 0, True: 0}
        self.under_way: list[tuple[int, int, str | None]] = []  # end, job, who is brought something
        self.deferred: list[tuple[int, int]] = []  # copies of the last step: job and blocks

    def at(self, now: int) -> None:
        """It is time to plan."""

    def restless(self) -> bool:
        """Whether an engine in which nobody is left goes on planning."""
        return False

    def planned(self, plan: Any, start: int) -> None:
        """A step was planned: from its start on it brings KV and copies what the one before it
        left, as vLLM's worker, which defers copies to the next step, empty ones as well."""
        told = plan.kv_connector_metadata
        for number, blocks in self.deferred:
            self._send(number, blocks, start, None)
        for number, job in told.load_jobs.items():
            self._send(number, len(job.dst_spec.block_ids), start, job.req_id)
        self.deferred = [
            (number, len(job.src_spec.block_ids)) for number, job in told.store_jobs.items()
        ]

    def _send(self, number: int, blocks: int, at: int, brings: str | None) -> None:
        way, settings = brings is None, self.settings
        self.free[way] = max(self.free[way], at)
        self.free[way] += settings["transfer"] + settings["block"] * blocks
        self.under_way.append((self.free[way], number, brings))

    def next(self) -> int | None:
        """When the next transfer ends."""
        return min((end for end, _, _ in self.under_way), default=None)

    def output(self, now: int) -> Any:
        """Return what a worker says of the transfers that have ended by now."""
        ended = sorted(each for each in self.under_way if each[0] <= now)
        self.under_way = [each for each in self.under_way if each[0] > now]
        said = OffloadingWorkerMetadata()
        for _, number, _ in ended:
            said.mark_completed(number)
        return KVConnectorOutput(
            finished_recving={brings for _, _, brings in ended if brings is not None},
            kv_connector_worker_meta=said,
        )


def _in_order(connector: Any) -> Any:
    """Requests that end in one step are a set of names, whose order is by chance: here, by name."""
    build = connector.build_connector_meta.__func__

    def build_in_order(self: Any, plan: Any) -> Any:
        plan.finished_req_ids = dict.fromkeys(sorted(plan.finished_req_ids))
        return build(self, plan)

    return build_in_order
