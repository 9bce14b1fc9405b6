"""DeepEP: tokens go to their experts on other GPUs of a server, and come back; measured tables.

Normal kernels (``deepep_high_throughput``) send a token once to every GPU that has one of its
experts, low-latency ones once for every expert, in rounds of at most ``ROUND_TOKENS``; a step with
normal kernels is never replayed as a CUDA graph (vllm/platforms/cuda.py). Other widths and numbers
of GPUs scale what lies above the time of one token with the bytes that leave a GPU.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from hardware.gpu import Gpu
from hardware.links.interconnect import servers
from hardware.yaml_file import Row, read_bundled, validated
from model.dataclass import dataclass
from model.kept import kept

Floats = npt.NDArray[np.float64]

HIGH_THROUGHPUT, LOW_LATENCY = "deepep_high_throughput", "deepep_low_latency"
MODES: dict[str, Literal["normal", "low_latency"]] = {
    HIGH_THROUGHPUT: "normal",
    LOW_LATENCY: "low_latency",
}
ROUND_TOKENS = 256
"""Of a GPU in one low-latency round; VLLM_MOE_DP_CHUNK_SIZE."""
FP8_BYTES = 1 + 4 / 128
"""Of a number that is sent out in blocks of 128, its share of a scale included."""
NORMAL_BUFFER_BYTES = 1024 * 2**20
"""VLLM_DEEPEP_BUFFER_SIZE_MB."""


@dataclass(frozen=True)
class Times(Row):
    """Microseconds of one GPU, by its tokens."""

    tokens: tuple[float, ...]
    dispatch: tuple[float, ...]
    combine: tuple[float, ...]


@dataclass(frozen=True)
class Table(Row):
    """What was measured: ``hardware/deepep.yaml``."""

    source: str
    hidden: int
    choices: int
    gpus: int
    modes: dict[Literal["normal", "low_latency"], dict[str, Times]]


@cache
def table() -> Table:
    """Return the measured times."""
    return kept("deepep", _read)


def _read() -> Table:
    path = Path(__file__).parents[1] / "deepep.yaml"
    return validated(Table, read_bundled(path), path.name)


def check_deepep(backend: str, gpu: Gpu, gpus: int) -> None:
    """Refuse what nothing was measured of. Raises ValueError."""
    known = table().modes[MODES[backend]]
    if gpu.name not in known:
        raise ValueError(
            f"engine.all2all_backend: {backend} on {gpu.name} is not modelled, expected "
            f"allgather_reducescatter: it was measured on {', '.join(known)}"
        )
    if servers(gpu, gpus)[0] > 1:
        raise ValueError(
            f"engine.all2all_backend: {backend} between {gpus} GPUs is not modelled, expected "
            f"allgather_reducescatter, or at most {table().gpus}: it was measured within a server"
        )


def deepep_s(
    backend: str, gpu: Gpu, gpus: int, tokens: Floats, *, hidden: int, choices: int, sent: float
) -> Floats:
    """Return the seconds of sending tokens out and back, in one layer.

    Args:
        backend: which kernels.
        gpu: every one.
        gpus: that hold the experts.
        tokens: of the GPU that has most of them.
        hidden: numbers of a token.
        choices: experts of a token.
        sent: bytes of a number on its way out; back it has two.
    """
    measured, mode = table(), MODES[backend]
    times = measured.modes[mode][gpu.name]
    copies = _copies(mode, gpus, choices) / _copies(mode, measured.gpus, measured.choices)
    share = copies * hidden / measured.hidden
    low = mode == "low_latency"
    rounds = np.floor(tokens / ROUND_TOKENS) if low else np.zeros_like(tokens)
    rest = tokens - rounds * ROUND_TOKENS
    total = np.zeros_like(tokens)
    for us, more in ((times.dispatch, sent / FP8_BYTES), (times.combine, 1.0)):
        one = _scaled(times.tokens, us, share * more, rest)
        full = _scaled(times.tokens, us, share * more, np.array([float(ROUND_TOKENS)]))[0]
        total = total + np.where(rest > 0, one, 0.0) + rounds * full
    return total * 1e-6


def buffer_bytes(backend: str, gpus: int, hidden: int, experts: int) -> int:
    """Return the bytes of a GPU's buffers; deepep's ``config.hpp``, ``LowLatencyLayout``."""
    if MODES[backend] == "normal":
        return NORMAL_BUFFER_BYTES
    message = 2 * hidden + 4 * (hidden // 128)
    messages = experts * ROUND_TOKENS
    return 2 * (2 * messages * message + 4 * experts)


def _copies(mode: str, gpus: int, choices: int) -> float:
    """Return how often a token leaves its GPU, with experts drawn evenly."""
    if mode == "low_latency":
        return choices * (gpus - 1) / gpus
    return (gpus - 1) * (1 - (1 - 1 / gpus) ** choices)


def _scaled(at: tuple[float, ...], us: tuple[float, ...], share: float, tokens: Floats) -> Floats:
    """Interpolate; beyond the table its last slope goes on."""
    slope = (us[-1] - us[-2]) / (at[-1] - at[-2])
    found = np.interp(tokens, at, us) + slope * np.maximum(tokens - at[-1], 0.0)
    return us[0] + share * (found - us[0])
