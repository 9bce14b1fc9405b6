"""Which table of measured kernels a mixer is looked up in, and as what.

Layers with a state move it once for every sequence of a step. Tables hold the delta rule alone; a
state-space layer, or linear attention, moves and computes other amounts (``model.mixers``) with
kernels of the same make, so that it is looked up as heads of the delta rule with as large a state.
"""

from dataclasses import replace

from hardware.calibration import Calibration
from hardware.prices.kernels import Kernels
from model.dataclass import dataclass
from model.mixers.beside import side_by_side
from model.mixers.latent import LatentAttention
from model.mixers.mixer import Kernel, Mixer
from model.mixers.recurrent import RECURRENT
from model.shape import DecoderSpec

GROUPED, DELTA = "grouped", "delta"
HEAD_NUMBERS = 128 * 128
"""Numbers of a head's state in the tables."""
TABLE_NUMBER_BYTES = 4.0
"""Of a number of a state in the tables: what their updates move at the memory's speed (91% of its
peak for 64 sequences of 64 heads on H100)."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A row of a table."""

    kernel: Kernel
    state_bytes: float = 1.0
    """Of a state, for each byte that the table's has."""


def looked_up(mixer: Mixer, kernels: Kernels, tp: int, activation_bytes: float) -> Lookup | None:
    """Return what a mixer is looked up as on one of ``tp`` ranks; None: no table is like it.

    Args:
        mixer: of one kind of layers.
        kernels: the tables of a GPU.
        tp: ranks.
        activation_bytes: of a number of a state that says nothing else.
    """
    kernel = mixer.kernel(tp)
    if isinstance(mixer, LatentAttention) and mixer.index_shared:
        return None
    if kernel.kind == GROUPED or not mixer.caches:
        return Lookup(kernel)
    table = kernel.kind if kernel.kind in kernels.mixers else DELTA
    states = [state for cache in mixer.caches for state in cache.states if state.name == RECURRENT]
    if states and table in kernels.mixers and len(mixer.caches) == 1:
        numbers = sum(state.numbers(tp) for state in states)
        heads = max(1, round(numbers / HEAD_NUMBERS))
        moved = sum(state.bytes(activation_bytes, tp) for state in states)
        each = moved / numbers / TABLE_NUMBER_BYTES
        return Lookup(Kernel(table, heads, kernel.kv_heads, 0), each)
    if kernel.kind not in kernels.mixers:
        return None
    return Lookup(replace(kernel, kv_heads=1))  # its table has whole ranks, by their heads


DOUBTED = 0.08
"""Median error of kernels that were left out of a trial fit above which a reader is told."""
PHASES = (("decode", "decoding"), ("prefill", "prompts"))
"""Of tables, and our words for them."""


def doubtful_note(spec: DecoderSpec, calibration: Calibration, numbers: str) -> str:
    """Return which layers' kernels are known worse than others; empty for none.

    Args:
        spec: the model.
        calibration: its prices.
        numbers: of the KV cache, as tables are called: ``bf16`` or ``fp8``.
    """
    kernels = calibration.kernels
    if kernels is None:
        return ""
    mixers = [mixer for kind in spec.layers for mixer in side_by_side(kind.mixer)]
    told: dict[str, None] = {}
    for mixer in mixers:
        found = looked_up(mixer, kernels, 1, 2.0)
        tables = {f"{found.kernel.kind} {phase}": words for phase, words in PHASES} if found else {}
        for table, words in tables.items():
            check = kernels.held_out.get(f"{table} {numbers}") or kernels.held_out.get(table)
            if check is not None and check.median > DOUBTED:
                told[f"{words} of {mixer.kernel(1).kind} layers to {check.median:.0%}"] = None
    return f"kernels that are known less well than others: {', '.join(told)}" if told else ""


def unmeasured_note(spec: DecoderSpec, calibration: Calibration) -> str:
    """Return what to tell of a model's layers that were not measured; empty for nothing."""
    kernels = calibration.kernels
    if kernels is None:
        return ""
    unlike: dict[str, int] = {}
    like: dict[str, int] = {}
    for kind in spec.layers:
        for mixer in side_by_side(kind.mixer):
            own, found = mixer.kernel(1).kind, looked_up(mixer, kernels, 1, 2.0)
            if found is None:
                unlike[own] = unlike.get(own, 0) + kind.count
            elif found.kernel.kind != own:
                like[own] = like.get(own, 0) + kind.count
    told = (_told(spec, unlike, "attention kernels"), _told(spec, like, "those of the delta rule"))
    return "; ".join(filter(None, told))


def _told(spec: DecoderSpec, layers: dict[str, int], whose: str) -> str:
    if not layers:
        return ""
    return (
        f"no measured kernels of {', '.join(layers)} ({sum(layers.values())} of "
        f"{spec.num_layers} layers): priced by the roofline at what {whose} reach"
    )
