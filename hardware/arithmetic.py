"""Which arithmetic a GPU gives a checkpoint: its own, or weights widened to 16 bits."""

from dataclasses import replace

from hardware.gpu import Gpu, UnsupportedPrecisionError
from model.precision import Precision
from model.quantization.scheme import Scheme

LEAST_CAPABILITY = 7.5
"""Of vLLM's kernels for quantized weights (Marlin); a GPU without a number is not refused."""
OLDER = ("bitsandbytes",)
"""Methods that run on what is older."""
WIDENED = ("fp8", "fp4")
"""Numbers that vLLM's Marlin kernel widens on the fly where a GPU cannot multiply them."""
MXFP4_METHOD = "mxfp4"
"""vLLM's ``Mxfp4MoEMethod``."""
TRITON_TILES, TRTLLM_TILES, MARLIN_TILES = (64, 1), (256, 256), (128, 256)
"""Multiples of an expert's width on a rank and of its inputs, of kernels for MXFP4."""
HOPPER, DATA_CENTER_BLACKWELL = 9, 10
"""Compute capabilities whose kernels for MXFP4 are not Marlin's."""


def runnable(precision: Precision, gpu: Gpu) -> Precision:
    """Return a precision with the arithmetic that a GPU has.

    fp8 and fp4 weights on a GPU without such units run as weights only, W8A16 and W4A16: as many
    bytes, products in 16 bits.

    Raises:
        UnsupportedPrecisionError: the GPU is too old for the method, or cannot multiply int8.
    """
    weights, capability = precision.weights, gpu.compute_capability
    if not weights.schemes():
        return precision
    if capability is not None and capability < LEAST_CAPABILITY and weights.method not in OLDER:
        raise UnsupportedPrecisionError(
            f"gpu {gpu.name} has compute capability {capability:g}, but {weights.method} needs "
            f"{LEAST_CAPABILITY:g}: set quantization: none with a checkpoint in 16 bits"
        )
    widened: dict[Scheme, Scheme] = {}
    for scheme in weights.schemes():
        if weights.method == MXFP4_METHOD and scheme.filled_up and capability is not None:
            tiles = _tiles(scheme, capability)
            widened[scheme] = replace(scheme, tiles=tiles, reordered=tiles == TRITON_TILES)
    for scheme in weights.schemes():
        if scheme.compute is None or scheme.compute in gpu.peak_flops_per_s:
            continue
        if scheme.compute not in WIDENED:
            gpu.peak(scheme.compute)
        widened[scheme] = replace(widened.get(scheme, scheme), compute=None)
    return replace(precision, weights=weights.map(widened)) if widened else precision


def _tiles(scheme: Scheme, capability: float) -> tuple[int, int]:
    """Return what experts of MXFP4 are filled up to: by Triton, TensorRT-LLM's kernels or Marlin.

    vllm/model_executor/layers/quantization/mxfp4.py, ``create_weights``.
    """
    if int(capability) == DATA_CENTER_BLACKWELL:
        return TRTLLM_TILES
    triton = int(capability) == HOPPER and not scheme.marlin
    return TRITON_TILES if triton else MARLIN_TILES
