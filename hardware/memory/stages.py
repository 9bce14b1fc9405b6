"""The memory of several pipeline stages: all have as many KV blocks as the one with least room.

vllm/v1/core/kv_cache_utils.py, ``get_kv_cache_configs``: the smallest number of blocks of all
workers is that of each.
"""

from collections.abc import Sequence
from dataclasses import replace

from hardware.memory.ledger import MemoryLedger
from model.stages import Stage


def of_all_stages(ledgers: Sequence[MemoryLedger], stages: Sequence[Stage]) -> MemoryLedger:
    """Return the ledger of the stage with least room, which tells of the others."""
    if len(ledgers) == 1:
        return ledgers[0]
    tightest = min(
        range(len(ledgers)),
        key=lambda place: (
            ledgers[place].num_gpu_blocks,
            ledgers[place].free_bytes - ledgers[place].used_bytes,
        ),
    )
    names = [_layers(stage) for stage in stages]
    return replace(
        ledgers[tightest],
        stage=f"stage {tightest + 1} of {len(stages)} ({names[tightest]})",
        stages=tuple(
            (f"{number} ({name})", ledger.weights_bytes, ledger.num_gpu_blocks)
            for number, (name, ledger) in enumerate(zip(names, ledgers, strict=True), start=1)
        ),
    )


def _layers(stage: Stage) -> str:
    places = sorted(place for kind in stage.spec.layers for place in kind.places)
    return f"layers {places[0]} to {places[-1]}"
