"""Where the memory of one GPU goes: the entries of a ledger, and how people read them."""

import math
from bisect import bisect_right
from collections import Counter

from hardware.memory.kv_layout import KvLayout
from hardware.memory.profile_run import Peak
from model.counts import count_of
from model.dataclass import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLedger:
    """Where the memory of one GPU goes, in bytes."""

    model: str
    gpu: str
    tensor_parallel_size: int
    pipeline_parallel_size: int = 1
    """Stages, of which ``stage`` has least room; the ledger is that of one of its GPUs."""
    stage: str = ""
    """Which stage that is, and its layers; empty for one."""
    stages: tuple[tuple[str, int, int], ...] = ()
    """Of all stages their layers, bytes of weights, and blocks that they have room for."""
    data_parallel_size: int = 1
    """Ranks over which experts are dealt; the ledger is that of a GPU of one."""
    total_bytes: int
    """What the driver offers."""
    startup_bytes: int
    """What the process holds before it loads anything; no part of the budget."""
    utilization: float
    """Share of the total that the engine takes."""
    budget_bytes: int
    """That share."""
    weights_bytes: int
    """Of one rank."""
    activations: Peak
    """Of the largest step."""
    cold_compile_bytes: int
    """Peak of a first start, which compiles; 0 where nothing is charged."""
    workspace_bytes: int
    """Of experts and of an index, where it stays between steps."""
    workspace_of: str = "experts"
    """Whose it is."""
    non_torch_bytes: int
    """CUDA's libraries, NCCL."""
    graphs_bytes: int
    """Captured CUDA graphs, where the budget holds them."""
    kv_bytes: int
    """What is left for the KV cache; negative when nothing is."""
    layout: KvLayout
    """Groups of layers that have blocks of their own."""
    num_gpu_blocks: int
    overridden: bool
    """Whether the number of blocks was given instead of computed."""
    weights_are: str = ""
    """How the weights are stored, and who says so; empty for 16 bits."""
    kv_numbers: str = ""
    """What the KV cache holds."""
    encoder_bytes: int = 0
    """Of encoders of images and sounds, which vLLM counts among the weights."""
    drafter_bytes: int = 0
    """Weights of what makes drafts, beside those that it shares with the model."""
    rotary_table_bytes: int = 0
    """Cosines and sines of every position, which vLLM counts among the weights."""

    max_model_len: int | None = None
    """Tokens of the longest request, if it is known."""
    in_flight_tokens: int = 0
    """Most that are scheduled and not computed yet."""
    waits_for_steps: bool = False
    """Whether blocks behind a window are given back only when the step in progress is done."""
    tokens_by_concurrency: bool = True
    """Whether ``kv_tokens`` of several groups are those of longest requests."""

    @property
    def block_size(self) -> int:
        """Tokens of one block; of the smallest, where groups differ."""
        return self.layout.block_tokens

    @property
    def block_bytes(self) -> int:
        """Of a block on one rank."""
        return self.layout.block_bytes

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds, as the engine tells them when it starts.

        Where groups hold different numbers of them, those of as many longest requests as fit; or,
        as older versions told, as if every group had an equal share of the blocks.
        """
        groups = len(self.layout.groups)
        if groups > 1 and self.tokens_by_concurrency and self.max_model_len is not None:
            return int(self.max_concurrency * self.max_model_len)
        return self.num_gpu_blocks // max(groups, 1) * self.block_size

    @property
    def longest_blocks(self) -> int:
        """Blocks of the longest request; 0 if it is not known."""
        if self.max_model_len is None:
            return 0
        return self.layout.most_blocks(self.max_model_len, self.in_flight_tokens)

    @property
    def longest_tokens(self) -> int:
        """The longest request, up to ``max_model_len``, that the cache holds alone."""
        return bisect_right(
            range(1, (self.max_model_len or 0) + 1),
            self.num_gpu_blocks,
            key=lambda tokens: self.layout.most_blocks(tokens, self.in_flight_tokens),
        )

    @property
    def max_concurrency(self) -> float:
        """How many of the longest requests fit; infinite if nothing is kept of them."""
        return self.num_gpu_blocks / self.longest_blocks if self.longest_blocks else math.inf

    @property
    def sizes(self) -> str:
        """How many GPUs share the model, under vLLM's names."""
        told = f"tensor_parallel_size = {self.tensor_parallel_size}"
        if self.pipeline_parallel_size > 1:
            told += f", pipeline_parallel_size = {self.pipeline_parallel_size}"
        if self.data_parallel_size > 1:
            told += f", data_parallel_size = {self.data_parallel_size}"
        return told

    @property
    def used_bytes(self) -> int:
        """Everything, the blocks included."""
        return self.fixed_bytes + self.num_gpu_blocks * self.block_bytes

    @property
    def fixed_bytes(self) -> int:
        """Everything but the blocks."""
        outside = self.workspace_bytes + self.non_torch_bytes + self.graphs_bytes
        held = self.weights_bytes + self.drafter_bytes
        held += self.encoder_bytes + self.rotary_table_bytes
        return held + self.activations.bytes + outside

    @property
    def free_bytes(self) -> int:
        """What an engine finds free when it starts."""
        return self.total_bytes - self.startup_bytes

    @property
    def fits(self) -> bool:
        """Whether there is a block, and room for all of them."""
        if self.num_gpu_blocks < 1 or self.used_bytes > self.free_bytes:
            return False
        return self.overridden or self.used_bytes <= self.budget_bytes <= self.free_bytes

    @property
    def holds_longest(self) -> bool:
        """Whether the cache holds one request of the greatest length, or blocks were given."""
        return self.overridden or self.longest_blocks <= self.num_gpu_blocks

    def lines(self) -> list[tuple[str, int, str]]:
        """Return (what, bytes, remark) of every entry, from the total to the KV cache."""
        gpus = self.tensor_parallel_size * self.data_parallel_size
        ranks = f"one of {gpus} ranks" if gpus > 1 else ""
        weights = ", ".join(x for x in (self.model, self.stage, ranks, self.weights_are) if x)
        table = ("- rotary table", self.rotary_table_bytes, "cosines and sines of all positions")
        encoders = ("- encoders", self.encoder_bytes, "of images or sounds, loaded with the model")
        drafter = ("- drafter", self.drafter_bytes, "weights of what makes drafts")
        beside = [one for one in (drafter, encoders, table) if one[1]]
        blocks = self._blocks_text()
        return [
            ("memory of the GPU", self.total_bytes, self.gpu),
            ("budget", self.budget_bytes, f"gpu_memory_utilization = {self.utilization:g}"),
            ("- weights", self.weights_bytes, weights),
            *beside,
            ("- activations", self.activations.bytes, self._activations_text()),
            *(
                (what, bytes_, remark)
                for what, bytes_, remark in (
                    ("- workspace", self.workspace_bytes, self.workspace_of),
                    ("- non-torch", self.non_torch_bytes, "CUDA, libraries, collectives"),
                    ("- CUDA graphs", self.graphs_bytes, "captured at start"),
                )
                if bytes_
            ),
            ("= left for KV", self.kv_bytes, "not used" if self.overridden else blocks),
            *(
                [("KV cache", self.num_gpu_blocks * self.block_bytes, f"given: {blocks}")]
                if self.overridden
                else []
            ),
            *self._longest_line(),
            *(
                (f"stage {name}", held, f"of weights, {count_of(count, 'block')} fit")
                for name, held, count in self.stages
            ),
        ]

    def _blocks_text(self) -> str:
        groups, blocks = self.layout.groups, count_of(self.num_gpu_blocks, "block")
        if len(groups) == 1 and not groups[0].state:
            blocks += f" of {count_of(self.block_size, 'token')}"
        blocks += f", {self.block_bytes / 2**20:.3g} MiB each"
        if len(groups) > 1:
            alike = Counter(map(str, groups))
            blocks += ", in groups: " + "; ".join(
                f"{count} x {what}" if count > 1 else what for what, count in alike.items()
            )
        return blocks + (f", {self.kv_numbers}" if self.kv_numbers == "fp8" else "")

    def _longest_line(self) -> list[tuple[str, int, str]]:
        """Where groups differ, how many requests fit is not told by the blocks."""
        if len(self.layout.groups) < 2 or not self.longest_blocks:
            return []
        text = (
            f"max_model_len = {self.max_model_len}: {count_of(self.longest_blocks, 'block')}, "
            f"{self.max_concurrency:.2f} at a time"
        )
        return [("longest request", self.longest_blocks * self.block_bytes, text)]

    def _activations_text(self) -> str:
        if self.cold_compile_bytes <= self.activations.bytes:
            return self.activations.what
        cold = self.cold_compile_bytes / GIB
        return f"{self.activations.what} ({cold:.2f} GiB at a first start, which compiles)"

    def as_text(self) -> str:
        """Return the ledger as a table in GiB, for people."""
        return "\n".join(
            f"{what:<18} {bytes_ / GIB:>9.2f} GiB  {remark}".rstrip()
            for what, bytes_, remark in self.lines()
        )
