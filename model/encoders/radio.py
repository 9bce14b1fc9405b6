"""C-RADIO, the encoder of images of Nemotron Nano VL; vllm/model_executor/models/radio.py."""

from collections.abc import Mapping
from typing import NamedTuple

from model.config_keys import Config, nested, whole
from model.encoders.tower import blocks, linear
from model.errors import UnknownArchitectureError, one_of


class Size(NamedTuple):
    """Of a transformer of images in timm."""

    hidden: int
    layers: int
    inner: int


SIZES = {
    "vit_small_patch16_224": Size(384, 12, 1536),
    "vit_base_patch16_224": Size(768, 12, 3072),
    "vit_large_patch16_224": Size(1024, 24, 4096),
    "vit_huge_patch16_224": Size(1280, 32, 5120),
}
"""By the name in ``vision_config.args.model``."""


def radio(vision: Config) -> int:
    """Count patches of images and of videos, positions, a token for each teacher, and layers.

    Raises:
        UnknownArchitectureError: another transformer.
    """
    args = nested(vision, "args")
    name = str(args.get("model"))
    if name not in SIZES:
        known = one_of(name, tuple(SIZES))
        raise UnknownArchitectureError(
            f"vision_config.args.model = {name!r} is not modelled, {known}"
        )
    size = SIZES[name]
    patch, frames = (
        whole(vision, "patch_size", 16), whole(vision, "video_temporal_patch_size", 1)
    )  # fmt: skip
    pixels = 3 * patch * patch * (1 + (frames if frames > 1 else 0))
    side = -(-whole(args, "cpe_max_size", 2048) // patch)
    rows = side * side + _tokens(args)
    layers = blocks(size.layers, size.hidden, size.inner)
    return linear(pixels, size.hidden, bias=False) + rows * size.hidden + layers


def _tokens(args: Config) -> int:
    """Tokens of teachers, and registers that fill them up."""
    teachers = args.get("teachers")
    names = {
        str(each.get("name")) for each in teachers if isinstance(each, Mapping)
    } if isinstance(teachers, list) else set()  # fmt: skip
    tokens = len(names) if names and args.get("cls_token_per_teacher") else 1
    multiple = whole(args, "register_multiple", 0)
    return tokens + (multiple - tokens % multiple if multiple else 0)
