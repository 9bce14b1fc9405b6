"""Whether prompts are cut, and what an engine does that is told not to."""

from experiments.validation.cells import switched_on
from experiments.validation.rows import RunRow
from model.shape import DecoderSpec

LEAST_BUDGET = 2048
"""Tokens of a step where prompts go in whole: this, or max_model_len if that is more."""


def scheduling(row: RunRow, spec: DecoderSpec, *, v0: bool, notes: list[str]) -> dict[str, object]:
    """Return the scheduler that a row tells, and what follows; nothing if it tells none.

    vLLM's first engine computes whole prompts first. The second one puts prompts and decodes into
    one step with chunked prefill off as well: a prompt that the rest of the budget has no room for
    waits (vllm/v1/core/sched/scheduler.py).
    """
    chunked = switched_on(row.chunked_prefill)
    if chunked is None and v0 and row.max_model_len is None:
        chunked = False
    if chunked is None:
        return {}
    if chunked or v0:
        return {"scheduler": "chunked_prefill" if chunked else "prefill_first"}
    notes.append(
        "chunked_prefill off: steps of prompts and decodes together, as in vLLM v1; a prompt that "
        "would wait for the next step is cut instead"
    )
    longest = row.max_model_len or spec.max_model_len
    budget = row.max_num_batched_tokens or max(longest, LEAST_BUDGET)
    return {"scheduler": "chunked_prefill", "max_num_batched_tokens": budget}
