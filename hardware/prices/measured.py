"""Prices from measured kernels; what no table covers follows the roofline."""

from collections.abc import Sequence
from math import log2

import numpy as np
import numpy.typing as npt

from hardware.arithmetic import DATA_CENTER_BLACKWELL
from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.links.interconnect import all_reduce_s, servers
from hardware.prices.beside import TILE_ROWS, tiled
from hardware.prices.chunks import ChunkCost, StateChunks, measured_chunks
from hardware.prices.deep_gemm import around_bytes
from hardware.prices.kernels import Kernels, nearest
from hardware.prices.lookup import looked_up
from hardware.prices.mixer_kernels import DecodeKernel
from hardware.prices.modelled import Roofline, states_moved
from hardware.prices.protocol import DecodeOperators
from hardware.prices.unmeasured import Unmeasured
from hardware.prices.waves import share_of_waves
from hardware.relatives import as_priced, other_links
from model.caches import Reach
from model.mixers.latent import EXPANDS
from model.mixers.mixer import Kernel, Mixer
from model.mlps.experts import ACTIVATES, ADDS_UP
from model.operators import F, Operator
from model.share import Share

Floats = npt.NDArray[np.float64]

MADE_ROWS = 8192.0
"""Earlier positions whose keys and values are made at once (vLLM's workspace of chunked prefill
holds up to 65,536; vllm/model_executor/layers/attention/mla_attention.py)."""

SMALL_KERNELS_PER_S = 2.8e12
"""Bytes that norms, activations and the like move at most, however fast the memory: long prompts of
Llama-3.1-70B take as much beside its products on B200 as on H200 (TP 4 and 8)."""


class Measured:
    """Matrix products, attention and all-reduces as tables have them.

    Standard attention, which nobody measured, and what joins ranks otherwise are the roofline's;
    mixers that no table has are in ``hardware.prices.unmeasured``.

    Args:
        gpu: whose peaks the tables are shares of.
        calibration: what an engine adds to its kernels.
        kernels: the tables.
        fused: FlashAttention; otherwise standard operators.
    """

    def __init__(
        self, gpu: Gpu, calibration: Calibration, kernels: Kernels, *, fused: bool
    ) -> None:
        self.calibration, self.kernels, self.fused = calibration, kernels, fused
        self.products = as_priced(gpu, kernels, calibration.gemm_arithmetic)
        self.gpu = gpu = as_priced(gpu, kernels)
        self.roofline = Roofline(gpu, calibration, fused=fused)
        self.unmeasured = Unmeasured(gpu, calibration, kernels)
        self.other_links = other_links(gpu, kernels)
        self.host = self.roofline.host
        self.all_gather_s = self.roofline.all_gather_s

    def operators_s(self, operators: Sequence[Operator], layers: int) -> Floats:
        """See ``Prices``. Small kernels by their traffic.

        ``layer_overhead_s`` is what those take however little they move (launches, and activations
        that the L2 cache holds): only what their traffic takes beyond it is added.
        """
        calibration = self.calibration
        moved_per_s = self.gpu.bandwidth_bytes_per_s * calibration.elementwise_bytes
        moved_per_s = min(moved_per_s, SMALL_KERNELS_PER_S)
        products: F = 0.0
        between: F = 0.0
        for operator in operators:
            if operator.gemm is not None:
                measured_s = self.kernels.gemm_s(operator, self.products) / calibration.gemm_share
                products = products + operator.layers * measured_s
                if self.kernels.tiles(operator):
                    moved_s = around_bytes(operator) / moved_per_s
                    products = products + operator.layers * moved_s
                continue
            if self.kernels.experts and operator.name in (ACTIVATES, ADDS_UP):
                continue
            between = between + operator.layers * operator.bytes / moved_per_s
        hidden_s = layers * calibration.layer_overhead_s
        return np.asarray(products + np.maximum(between - hidden_s, 0.0))

    def decode(
        self, mixer: Mixer, share: Share, most: int, rows: int = 1
    ) -> dict[Reach | None, DecodeOperators]:
        """See ``Prices``: the longer of a kernel's floor and its traffic.

        Tables have one row of a sequence. Several read what one reads (with an index, each what it
        chose), and are computed at what a prompt's attention reaches of the arithmetic.
        """
        if not self.fused:
            return self.roofline.decode(mixer, share, most, rows)
        numbers, layers = share.precision, share.count
        found = looked_up(mixer, self.kernels, share.tp, numbers.activation_bytes)
        if found is None:
            return self.unmeasured.decode(mixer, share, most, rows)
        kernel = found.kernel
        table = self._decode_table(kernel, share)
        # Where an index chooses positions, every row has others.
        sequences = np.arange(most + 1) * (rows if len(mixer.caches) > 1 else 1)
        floor_s, base_s, reached = table.of_batches(sequences, *_heads(kernel))
        if not kernel.position_numbers:
            bound = self.roofline.attention_s(mixer, share, (1.0, 1.0), decode=True)
            moved_s = sum(memory.per_sequence for _, _, memory in bound) / max(1, layers)
            times = states_moved(rows)
            base_s = floor_s = _moving(floor_s, times * found.state_bytes, times * moved_s)
        cache = mixer.caches[-1]  # of an index where there is one: its keys are all read
        row_bytes = kernel.position_numbers * numbers.kv_bytes
        if len(mixer.caches) > 1:
            row_bytes = cache.entry_bytes(numbers.kv_bytes, share.tp)
        own = kernel.kind in self.kernels.mixers
        if kernel.heads > kernel.kv_heads:
            one = self.calibration.attention_decode_bytes
            flash = not own and not self._of_tensorrt
            waves = share_of_waves(sequences, kernel.kv_heads, self.kernels.gpu, one)
            reached = reached * (waves if flash else one)
            if numbers.kv_bytes < 2.0 and flash:
                reached = reached * self.calibration.attention_decode_small_cache
        per_position = layers * row_bytes / (self.gpu.bandwidth_bytes_per_s * reached)
        starts = layers * (1.0 if own else self.calibration.attention_decode_start)
        floor, base = (starts * seconds for seconds in (floor_s, base_s))
        columns = (floor.tolist(), base.tolist(), per_position.tolist())
        batches: DecodeOperators = [
            [((low, 0.0), (start, slope))] for low, start, slope in zip(*columns, strict=True)
        ]
        if rows > 1:
            computed = self.unmeasured.arithmetic(mixer, share, most, rows).get(cache.read, [])
            for of_term in computed:
                for batch, (flat, slope) in zip(batches, of_term, strict=True):
                    (longest,) = batch
                    batch[0] = (*longest, (longest[1][0] + flat, slope))
        return {cache.read: batches}

    def beside_position_s(self, mixer: Mixer, share: Share) -> float:
        """See ``Prices``: tiles of attention with grouped heads."""
        numbers = share.precision
        found = looked_up(mixer, self.kernels, share.tp, numbers.activation_bytes)
        own = found is None or found.kernel.kind in self.kernels.mixers
        if not self.fused or own or not tiled(self.gpu, self.calibration, share):
            return 0.0
        reached = (self.calibration.attention_beside_flops, 1.0)
        terms = self.roofline.attention_s(mixer, share, reached, decode=True)
        return TILE_ROWS * sum(flops.per_position + flops.per_pair for _, flops, _ in terms)

    def chunks(self, mixer: Mixer, share: Share, overhead_s: float) -> ChunkCost:
        """See ``Prices``."""
        if not self.fused:
            return self.roofline.chunks(mixer, share, overhead_s)
        numbers = share.precision.kv_numbers
        found = looked_up(mixer, self.kernels, share.tp, share.precision.activation_bytes)
        if found is None:
            return self.unmeasured.chunks(mixer, share, overhead_s)
        kernel = found.kernel
        table = self._decode_table(kernel, share)
        launch_s, _, _ = table.of_batches(np.array([1]), *_heads(kernel))

        def share_of(tokens: Floats, positions: Floats) -> Floats:
            """Return the share of the peak that chunks of ``tokens`` behind ``positions`` reach."""
            if kernel.kind in self.kernels.mixers:
                surface = nearest(self.kernels.mixers[kernel.kind].prefill, numbers)
                return surface(rows=tokens, positions=positions, heads=kernel.heads)
            surface = nearest(self.kernels.prefill_attention, numbers)
            rows = tokens * kernel.heads
            return surface(rows=rows, positions=positions, group=kernel.group)

        chunks = measured_chunks(
            self.roofline.modelled_chunks(mixer, share, (1.0, 1.0), 0.0),
            share_of,
            overhead_s=overhead_s,
            launch_s=share.count * float(launch_s[0]),
            past_s=self._made_again_s(mixer, share),
        )
        return chunks if kernel.position_numbers else StateChunks(chunks)

    @property
    def _of_tensorrt(self) -> bool:
        """Whether attention is TensorRT-LLM's, whose kernels for Blackwell deal their work
        otherwise, and compute with a cache in fp8 as it is. Constants are of FlashAttention."""
        return int(self.gpu.compute_capability or 0) == DATA_CENTER_BLACKWELL

    def _decode_table(self, kernel: Kernel, share: Share) -> DecodeKernel:
        own = self.kernels.mixers.get(kernel.kind)
        tables = own.decode if own else self.kernels.decode_attention
        return nearest(tables, share.precision.kv_numbers)

    def _made_again_s(self, mixer: Mixer, share: Share) -> float:
        """Keys and values of one earlier position, which every chunk makes of the latents again."""
        made = [matrix for matrix in mixer.matrices if matrix.name == EXPANDS]
        products = [one for matrix in made for one in share.products(matrix, MADE_ROWS)]
        if not products:
            return 0.0
        seconds = self.operators_s(products, 0)
        return float(seconds) / MADE_ROWS

    def all_reduce_s(self, bytes_: Floats, ranks: int, *, fused: bool = False) -> Floats:
        """See ``Prices``; groups beyond the tables, or a server, are as the roofline says.

        In the tables ranks do nothing else; in an engine they wait for the slowest, and the later
        that is the more there are.
        """
        if not self.kernels.reduces(ranks) or servers(self.gpu, ranks)[0] > 1:
            return self.roofline.all_reduce_s(bytes_, ranks)
        one: Floats = self.kernels.all_reduce_s(bytes_, ranks, fused=fused)
        if self.other_links is not None:  # ours reach the same share of what they allow
            ours = all_reduce_s(bytes_, ranks, self.gpu)
            one = one * ours / all_reduce_s(bytes_, ranks, self.other_links)
        return one + self.calibration.collective_overhead_s * log2(ranks)


def _moving(seconds: Floats, state_bytes: float, moved_s: float) -> Floats:
    """Return the seconds of updates of the states of 0, 1, 2, ... sequences.

    Args:
        seconds: as the table has them; those of small states found them in the L2 cache.
        state_bytes: of a state, for each byte of the table's: what one sequence takes is a launch,
            and what more take beyond it is traffic.
        moved_s: of one sequence's state, from memory and back at its peak.
    """
    first = seconds[min(1, len(seconds) - 1)]
    beyond = np.maximum(seconds - first, 0.0) * state_bytes
    updated = np.minimum(seconds, first) + beyond
    return np.asarray(np.maximum(updated, moved_s * np.arange(len(seconds))))


def _heads(kernel: Kernel) -> tuple[int, float]:
    """KV heads and query heads for each: of a state, which has no positions, one and all."""
    if kernel.position_numbers:
        return kernel.kv_heads, kernel.group
    return 1, float(kernel.heads)
