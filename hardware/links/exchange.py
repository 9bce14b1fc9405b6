"""How tokens come to their experts on other GPUs, and what comes of them back: vLLM's backends.

``allgather_reducescatter``: every GPU gathers all tokens, computes its own experts of them, and the
outputs are added up and scattered; vllm/distributed/device_communicators/all2all.py. Between the
ranks of one tensor-parallel group tokens are dealt out before (``use_sequence_parallel_moe``), and
gathered again behind the layer. DeepEP's: see ``hardware.links.deepep``.
"""

import numpy as np
import numpy.typing as npt

from hardware.gpu import Gpu
from hardware.group import Group
from hardware.links.deepep import (
    FP8_BYTES,
    HIGH_THROUGHPUT,
    LOW_LATENCY,
    MODES,
    buffer_bytes,
    check_deepep,
    deepep_s,
)
from hardware.links.interconnect import servers
from hardware.prices.protocol import Prices
from model.dataclass import dataclass
from model.errors import one_of
from model.spec import DecoderSpec

Floats = npt.NDArray[np.float64]

GATHERED = "allgather_reducescatter"
BACKENDS = (GATHERED, HIGH_THROUGHPUT, LOW_LATENCY)
OTHERS = (
    "naive", "pplx", "deepep_v2",
    "mori_high_throughput", "mori_low_latency", "moonep", "nixl_ep", "passthrough",
    "flashinfer_all2allv", "flashinfer_nvlink_one_sided", "flashinfer_nvlink_two_sided",
)  # fmt: skip
"""Of vLLM, which are not modelled."""
CHOICE_BYTES = 8
"""Of one choice of a token: which expert (int32), and its weight (fp32)."""
SCALE_BLOCKS = {"fp8": (1.0, 4 / 128), "fp4": (0.5, 1 / 16)}
"""Bytes of a number and of its share of a scale, by arithmetic: blocks of 128 with a scale of 4
bytes, of 16 with one of 1 byte."""


def check_backend(name: str) -> str:
    """Return the name of a backend that is modelled. Raises ValueError."""
    if name in OTHERS and name not in BACKENDS:
        raise ValueError(f"is vLLM's and is not modelled, expected {' or '.join(BACKENDS)}")
    if name not in BACKENDS:
        raise ValueError(one_of(name, BACKENDS))
    return name


@dataclass(frozen=True, slots=True)
class Exchange:
    """One backend."""

    backend: str = GATHERED
    quantized: bool = False
    """Tokens are quantised before they are sent."""

    @property
    def replays(self) -> bool:
        """Whether steps may be replayed as CUDA graphs."""
        return self.backend != HIGH_THROUGHPUT

    def by_total_s(self, group: Group, prices: Prices, ranks: int, tokens: Floats) -> Floats:
        """Return what all layers send in a step, by the tokens of all ranks together."""
        if self.backend in MODES:
            return np.zeros_like(tokens)
        out_bytes = tokens * self.dispatched_bytes(group)
        back_bytes = group.reduced_bytes(tokens)
        gpus = ranks * group.tp
        one = prices.all_gather_s(out_bytes, gpus) + prices.all_gather_s(back_bytes, gpus)
        return np.where(tokens > 0, group.expert_layers * one, 0.0)

    def by_most_s(self, group: Group, prices: Prices, ranks: int, tokens: Floats) -> Floats:
        """Return the same by the tokens of the largest rank: what its group gathers again."""
        one = np.zeros_like(tokens)
        if group.tp > 1:
            one = one + prices.all_gather_s(group.reduced_bytes(tokens), group.tp)
        if self.backend in MODES:
            one = one + deepep_s(
                self.backend, group.gpu, ranks * group.tp, np.ceil(tokens / group.tp),
                hidden=group.spec.hidden_size, choices=group.choices,
                sent=FP8_BYTES if group.expert_compute == "fp8" else 2.0,
            )  # fmt: skip
        return np.where(tokens > 0, group.expert_layers * one, 0.0)

    def dispatched_bytes(self, group: Group) -> float:
        """Return the bytes that one token and its choices are sent with."""
        numbers = group.spec.hidden_size
        each = float(group.precision.activation_bytes)
        if self.quantized:
            each = sum(SCALE_BLOCKS.get(group.expert_compute, (each,)))
        return numbers * each + group.choices * CHOICE_BYTES


def check_exchange(backend: str, gpu: Gpu, gpus: int) -> None:
    """Refuse what a backend is not modelled for. Raises ValueError."""
    if backend in MODES:
        check_deepep(backend, gpu, gpus)


def exchange_bytes(backend: str, spec: DecoderSpec, gpus: int) -> int:
    """Return the bytes that a backend keeps on every GPU."""
    if backend not in MODES:
        return 0
    return buffer_bytes(backend, gpus, spec.hidden_size, spec.num_experts)


def told_of_exchange(backend: str, gpu: Gpu, gpus: int) -> str:
    """Say what a reader must know of the exchange between so many GPUs."""
    if backend in MODES:
        return (
            f"all2all_backend {backend} between {gpus} {gpu.name}: kernels that were measured "
            "between 8, with 7,168 numbers and 8 experts a token, scaled by bytes; nothing "
            "overlaps, and experts compute as with allgather_reducescatter"
        )
    count, each = servers(gpu, gpus)
    over = f", over {count} servers of {each}" if count > 1 else ""
    return (
        f"all2all_backend {backend} between {gpus} {gpu.name}{over}: tokens of all ranks cross the "
        "links, in a time that is computed and was not measured; nothing overlaps with it"
    )


PLAIN = Exchange()
"""The default backend, in 16 bits."""
