"""What the drawing of tokens costs, by version of the engine: rows of ``engines.yaml``."""

import numpy as np
import numpy.typing as npt

from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from model.sampling import Drawing, drawing_by_name
from model.shape import DecoderSpec

Floats = npt.NDArray[np.float64]


def server_drawing(spec: DecoderSpec, version: str) -> Drawing:
    """Return how a version's server draws tokens of a request that says nothing about it.

    Since 0.8 the model's generation_config.json is taken; before, nothing is cut.
    """
    if vllm().sampling.generation_config.at(version_key(version)) == "vllm":
        return "temperature"
    return spec.drawing or drawing_by_name(spec.name)


def default_drawing(spec: DecoderSpec, version: str) -> Drawing:
    """Return how tokens are drawn for a version's own benchmark client, if its user says nothing.

    It asks for the likeliest token until 0.15; since then it says nothing.
    """
    asked = vllm().sampling.benchmark.at(version_key(version))
    return server_drawing(spec, version) if asked == "server" else asked


CACHED_BYTES_PER_S = 2e12
"""Of GPUs from Ada on, whose L2 caches of 48 to 96 MB hold what is sorted where their memory is
slower: an assumption, no run tells it."""


def drawing_s(drawing: Drawing, version: str, vocab_size: int, gpu: Gpu, max_seqs: int) -> Floats:
    """Return the seconds that drawing adds to a step, by its sequences from 0 to ``max_seqs``.

    What cuts the distribution passes over every logit of the vocabulary several times, wherever the
    logits were computed, and so do penalties.
    """
    sequences = np.arange(max_seqs + 1.0)
    cached = "fp8" in gpu.peak_flops_per_s
    bytes_per_s = max(gpu.bandwidth_bytes_per_s, CACHED_BYTES_PER_S if cached else 0.0)
    if drawing not in ("top_p", "penalties"):
        return 0.0 * sequences
    rows, at = vllm().sampling, version_key(version)
    parts = [rows.cut.at(at)] + ([rows.penalties.at(at)] if drawing == "penalties" else [])
    seconds = 0.0 * sequences
    for part in parts:
        few = np.minimum(sequences, part.rows or max_seqs)
        logit_bytes = few * part.logit_bytes + (sequences - few) * part.more_logit_bytes
        seconds += part.step_s + logit_bytes * vocab_size / bytes_per_s
    return np.where(sequences > 0, seconds, 0.0)
