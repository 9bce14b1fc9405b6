"""Where a torch decoder's time goes: its operators in classes, timed by torch's profiler."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from model.ops import Operator

if TYPE_CHECKING:
    from model.torch.decoder import Decoder

CLASSES = ("contractions", "normalisations", "element-wise", "copies and gathers")
"""The first three are those of Ivanov et al. 2021, table 1; the last computes nothing."""

CLASS_OF_CALL = {
    "contractions": ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm"),
    "normalisations": ("rms_norm", "layer_norm", "softmax"),
    "element-wise": (
        *("add", "add_", "sub", "mul", "mul_", "div", "div_", "neg", "addcmul", "addcmul_"),
        *("silu", "gelu", "relu", "masked_fill", "masked_fill_", "gt", "cos", "sin"),
    ),
}
"""Names of torch's operators. The outermost one of these that encloses a kernel decides its class:
the mean of squares inside ``rms_norm`` is a normalisation, a transposed copy inside ``matmul``
belongs to the contraction."""

_CLASSES_BY_CALL = {
    f"aten::{call}": name for name, calls in CLASS_OF_CALL.items() for call in calls
}


def class_of(operator: Operator) -> str:
    """Return the class of an operator of ``model.ops``, attention being in three parts."""
    if operator.kind == "gemm" or operator.name in ("attn_scores", "attn_value"):
        return "contractions"
    if operator.kind == "norm" or operator.name == "attn_softmax":
        return "normalisations"
    return "copies and gathers" if operator.kind == "gather" else "element-wise"


def flops_by_class(operators: Iterable[Operator]) -> dict[str, float]:
    """Return the FLOPs of a step by class, all layers together."""
    total = dict.fromkeys(CLASSES, 0.0)
    for operator in operators:
        total[class_of(operator)] += float(operator.layers * operator.flops)
    return total


def seconds_by_class(decoder: "Decoder", tokens: int, repeats: int) -> dict[str, float]:
    """Time prefills of ``tokens`` tokens with standard attention; seconds of one, by class.

    The mean of ``repeats`` passes after one that warms up, on the CPU. Fused attention is one
    kernel that holds contractions and softmax, so standard attention is asked for.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    decoder.kernel = "standard"
    ids = torch.arange(tokens).remainder(decoder.spec.vocab_size)[None]
    decoder.forward(ids, last_only=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            decoder.forward(ids, last_only=True)
    total_us = dict.fromkeys(CLASSES, 0.0)
    for event in profiler.events():
        if event.cpu_parent is None:
            _add(event, total_us)
    return {name: value * 1e-6 / repeats for name, value in total_us.items()}


def _add(event: Any, total_us: dict[str, float]) -> None:
    """Add an event's time to the class of its outermost known call."""
    known = _CLASSES_BY_CALL.get(event.name)
    if known is not None:
        total_us[known] += event.cpu_time_total
        return
    total_us["copies and gathers"] += event.self_cpu_time_total
    for child in event.cpu_children:
        _add(child, total_us)
