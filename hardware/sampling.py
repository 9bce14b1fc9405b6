"""What the drawing of tokens costs, by version of the engine: rows of ``engines.yaml``."""

from hardware.engine_table import vllm
from hardware.gpu import Gpu
from hardware.versions import version_key
from model.sampling import Drawing, drawing_by_name
from model.shape import DecoderSpec


def default_drawing(spec: DecoderSpec, version: str) -> Drawing:
    """Return how a version's server draws tokens of a request that says nothing about it.

    Since 0.8 the model's generation_config.json is taken; before, nothing is cut.
    """
    if vllm().sampling.generation_config.at(version_key(version)) == "vllm":
        return "temperature"
    return spec.drawing or drawing_by_name(spec.name)


def drawing_s(drawing: Drawing, version: str, vocab_size: int, gpu: Gpu) -> tuple[float, float]:
    """Return the seconds that drawing adds to a step, and to each sequence in it.

    What cuts the distribution passes over every logit of the vocabulary several times, wherever the
    logits were computed, and so do penalties.
    """
    if drawing not in ("top_p", "penalties"):
        return 0.0, 0.0
    rows, at = vllm().sampling, version_key(version)
    parts = [rows.cut.at(at)] + ([rows.penalties.at(at)] if drawing == "penalties" else [])
    logits_per_s = gpu.bandwidth_bytes_per_s / sum(part.logit_bytes for part in parts)
    return sum(part.step_s for part in parts), vocab_size / logits_per_s
