"""Requests whose prompt one replica computes and another one answers: their times, as columns."""

from dataclasses import fields

import numpy as np

from model.dataclass import dataclass
from sim.engine.sequence import Sequence
from sim.recording.tape import Column

HANDOVER_COLUMNS = {
    "prefill_replica": "which replica computed the prompt; -1: the one that answered",
    "prefill_computed_s": "time of the steps there that computed a part of the prompt",
    "prefilled_s": "end of the last of them; NaN if it did not come so far",
    "handed_s": "when the answering replica had the request: later by the API's time",
    "blocks_s": "when that had blocks for the whole prompt, and the transfer began",
    "loaded_s": "when the transfer was over",
    "kept_blocks": "KV blocks of the prompt that stayed where it was computed until then",
    "transferred_tokens": "tokens of the prompt in the blocks that were transferred, full or not",
    "transferred_bytes": "bytes of these blocks, on all ranks that read them",
}
"""Further columns of the request table, of a cluster with pools that prefill."""


@dataclass(slots=True, eq=False)
class Handover:
    """One request on its way through two replicas."""

    sequence: Sequence
    """The request, which the sink answers."""
    prompt: Sequence
    """Its prompt, as the source serves it: with one token of output, which is thrown away."""
    source: int
    sink: int
    prefilled_s: float = np.nan
    handed_s: float = np.nan
    blocks_s: float = np.nan
    loaded_s: float = np.nan
    kept_blocks: int = 0
    transferred_tokens: int = 0
    transferred_bytes: int = 0
    gone: bool = False
    """Whether nobody wants it any more."""


_NUMBERS: dict[str, np.generic] = {
    "prefill_replica": np.int32(-1),
    "kept_blocks": np.int32(0),
    "transferred_tokens": np.int32(0),
    "transferred_bytes": np.int64(0),
}
NOT_HANDED_OVER: dict[str, np.generic] = {
    name: _NUMBERS.get(name, np.float64(np.nan)) for name in HANDOVER_COLUMNS
}
"""What stands in each column of a request that one replica serves alone."""
_OWN = [each.name for each in fields(Handover) if each.name in HANDOVER_COLUMNS]


class Handovers:
    """Columns of all requests of a run."""

    def __init__(self, rows: int) -> None:
        self.columns: dict[str, Column] = {
            name: np.full(rows, missing) for name, missing in NOT_HANDED_OVER.items()
        }

    def note(self, handover: Handover) -> None:
        """Write down what is known of one by now."""
        row, columns = handover.sequence.request, self.columns
        columns["prefill_replica"][row] = handover.source
        columns["prefill_computed_s"][row] = handover.prompt.computed_s
        for name in _OWN:
            columns[name][row] = getattr(handover, name)
