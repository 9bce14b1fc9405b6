"""Decodes beside a prompt's chunk, where one call of FlashAttention 2 computes both.

vLLM's first engine called one kernel for prompts and another for decodes; since 0.8 one call has
all sequences of a step. Where every sequence has one row, FlashAttention 2 lets the query heads of
a KV head share what is read, and cuts long contexts for idle processors (``vllm_flash_attn``,
``seqlenq_ngroups_swapped``). With any longer sequence in the call it does neither: a decode takes a
tile of 64 query rows for each of its query heads, as a prompt's last rows do, and the grid has as
many tiles for it as for the longest chunk, all but one of them without rows.

    max(alone, heads x tile x (keys / 128 + 1)) + heads x 0.09 tile x (longest chunk / 64)

for each sequence, with the seconds of a tile ``4 x 64 x 128 x head size FLOPs`` at a share of the
GPU's arithmetic (``Calibration.attention_beside_flops``). Constants: attention of mixed steps of
three models on RTX 4090 and RTX PRO 6000 in vLLM 0.19 (LLMServingSim, MIT), 122,208 kernels: a
median error of 11%, where the sum of both apart is 33% off, and 64% too fast with 128 decodes.
Hopper has FlashAttention 3, which keeps heads together; FlashInfer, which caches in fewer than 16
bits take, calls two kernels.
"""

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.prices.lines import Line
from model.share import Share

TILE_ROWS, TILE_KEYS = 64, 128
"""Of a tile: query rows of one head, and keys that they attend at a time."""
BLOCK_TILES = 1.0
"""What a sequence takes beside its keys, in tiles: half for a last one that is not full."""
IDLE_TILES = 0.09
"""What a tile without rows takes."""
FLASH_ATTENTION_2 = (8, 12)
"""Compute capabilities whose GPUs have it: Ampere and Ada, and Blackwell beside a display."""


def tiled(gpu: Gpu, calibration: Calibration, share: Share) -> bool:
    """Tell whether decodes beside a chunk are computed in its tiles."""
    capability = int(gpu.compute_capability or 0)
    wide = share.precision.kv_bytes >= 2.0
    return calibration.attention_beside_flops > 0 and capability in FLASH_ATTENTION_2 and wide


def tile_line(position_s: float, sequences: int) -> Line:
    """Return what decodes take as tiles, over the positions that they attend between them.

    Args:
        position_s: of one, see ``Prices.beside_position_s``.
        sequences: that decode.
    """
    return BLOCK_TILES * TILE_KEYS * position_s * sequences, position_s


def idle_tile_s(position_s: float) -> float:
    """Return what a decode takes for each 64 rows of the longest chunk beside it."""
    return IDLE_TILES * TILE_KEYS * position_s
