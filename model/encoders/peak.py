"""What an encoder of images takes while it computes its largest image, as engines profile it.

vLLM runs every model at start with the largest image that its processor makes
(vllm/v1/worker/gpu_model_runner.py, ``profile_run``), and keeps what comes out during the step of
the language model that follows.
"""

from model.config_keys import Config, nested, side, whole
from model.dataclass import dataclass
from model.encoders.images import NO_DEEP_STACKS

QWEN3_PATCHES = 65_536
"""Of the largest image: 16,777,216 pixels in patches of 16 x 16
(``size.longest_edge`` of Qwen3-VL's preprocessor_config.json; Qwen3.5 has the same)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPeak:
    """Numbers of an activation's size; all of one image."""

    whole: int
    """On every rank: pixels, in 32 bits and in the tower's own, and rows of the tower."""
    divided: int
    """Between the matrices of the tower's MLP, which ranks share."""
    kept: int
    """Rows that come out, for the language model."""

    def numbers(self, tp: int) -> int:
        """Return the most that one of ``tp`` ranks holds at a time inside the tower."""
        return self.whole + -(-self.divided // tp)


def qwen3(config: Config, text: Config) -> EncoderPeak:
    """Return the peak of the tower of Qwen3-VL and Qwen3.5, inside the MLP of a layer.

    Of every patch there are the pixels twice, in 32 bits and as the tower reads them, three rows
    (in, normed, out), and the MLP before and behind its function. Each four patches come out as
    one row of the language model, once more for every deep stack.
    """
    return _qwen3(nested(config, "vision_config"))


def qwen3_5(config: Config, text: Config) -> EncoderPeak:
    """Return the same of Qwen3.5, which has no deep stacks unless its file names some."""
    return _qwen3({**NO_DEEP_STACKS, **nested(config, "vision_config")})


def _qwen3(vision: Config) -> EncoderPeak:
    frames, patch = whole(vision, "temporal_patch_size", 2), side(vision, "patch_size", 16)
    pixels, hidden = 3 * frames * patch**2, whole(vision, "hidden_size", 1152)
    stacks = vision.get("deepstack_visual_indexes", [8, 16, 24])
    rows = 1 + (len(stacks) if isinstance(stacks, list) else 0)
    merged = whole(vision, "spatial_merge_size", 2) ** 2
    out = whole(vision, "out_hidden_size", 3584)
    return EncoderPeak(
        whole=QWEN3_PATCHES * (3 * pixels + 3 * hidden),
        divided=QWEN3_PATCHES * 2 * whole(vision, "intermediate_size", 4304),
        kept=QWEN3_PATCHES // merged * rows * out,
    )
