"""What attention of decodes reaches of its tables' rate when requests differ in length.

Its kernels deal tiles, a sequence and a KV head each, to the multiprocessors of a GPU, and take as
long as the last of them. Tables time sequences that are all equally long, in powers of two, which
fill whole waves. In an engine the last wave is as full as chance has it: the more waves there are,
the less of the time it is. With few tiles a kernel cuts each, and always fills about one wave.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MULTIPROCESSORS = {
    "a100-80gb-sxm": 108,
    "h100-sxm": 132,
    "h200-sxm": 132,
    "b200-sxm": 148,
    "b300-sxm": 160,
    "gb200": 148,
    "gb300": 160,
    "l40s": 142,
    "rtx-pro-6000": 188,
}
"""Of the GPUs that have tables (NVIDIA's papers on Ampere, Hopper, Ada and Blackwell)."""
ANOTHER = 132
"""Of a GPU that somebody else measured."""


LOST_WAVES = 1.0 / 0.82 - 1.0
"""Of a wave, by which the last tiles end later: with it a single wave reaches 0.82."""


def share_of_waves(sequences: npt.NDArray[np.int64], kv_heads: int, gpu: str, one: float) -> Floats:
    """Return the share of the tables' rate that batches of ``sequences`` reach.

    ``one`` times ``(1 + lost) w / (w + lost)`` for w waves, at least one: what is lost is part of a
    wave, however many there are.

    Args:
        sequences: in each batch.
        kv_heads: on a rank.
        gpu: catalogue name of the GPU that was measured.
        one: share that a single wave reaches (``attention_decode_bytes``).
    """
    waves = np.maximum(1.0, sequences * kv_heads / MULTIPROCESSORS.get(gpu, ANOTHER))
    return np.asarray(one * (1.0 + LOST_WAVES) * waves / (waves + LOST_WAVES))
