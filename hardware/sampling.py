"""What the drawing of tokens costs, by version of the engine: rows of ``engines.yaml``."""

from typing import Literal

from hardware.engine_table import vllm
from hardware.versions import version_key
from model.sampling import is_cut_by_name
from model.shape import DecoderSpec

Drawing = Literal["greedy", "temperature", "top_p"]
"""The likeliest token; one of all; one of the likeliest, by top-p, top-k or both."""


def default_drawing(spec: DecoderSpec, version: str) -> Drawing:
    """Return how a version's server draws tokens of a request that says nothing about it.

    Since 0.8 the model's generation_config.json is taken; before, nothing is cut.
    """
    if vllm().sampling.generation_config.at(version_key(version)) == "vllm":
        return "temperature"
    cut = is_cut_by_name(spec.name) if spec.sampling_cut is None else spec.sampling_cut
    return "top_p" if cut else "temperature"


def drawing_s(drawing: Drawing, version: str, vocab_size: int) -> tuple[float, float]:
    """Return the seconds that drawing adds to a step, and to each sequence in it.

    Only what cuts the distribution costs: it looks at every logit of the vocabulary, wherever the
    logits were computed.
    """
    if drawing != "top_p":
        return 0.0, 0.0
    cost = vllm().sampling.cut.at(version_key(version))
    return cost.step_s, cost.logit_s * vocab_size
