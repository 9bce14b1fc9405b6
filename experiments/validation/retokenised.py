"""Prompts of random tokens that are longer than what was asked for.

vLLM's benchmark client draws token numbers and sends their text, which the server tokenises again.
Before pull request 17408 of vllm-project/vllm (it is in 0.9.2, and not in 0.8.5) nobody saw to it
that as many come out: 4,106 of 4,000 with Llama 3.1's tokenizer, as told there. The client counts
what it asked for.
"""

from dataclasses import replace

from experiments.validation.clients import is_random_text
from experiments.validation.rows import RunRow
from experiments.validation.traffic import Plan
from hardware.engines.versions import Version
from model.spec import DecoderSpec

LONGER = {128_256: 4106 / 4000}
"""By entries of the vocabulary: of what is told of no tokenizer nothing is assumed."""
SEEN_TO = (0, 9)
"""First version whose client is taken to see to it; it is taken to be of the server's version."""


def as_it_arrives(plan: Plan, row: RunRow, spec: DecoderSpec, version: Version | None) -> Plan:
    """Return the requests of a run with prompts as long as the server has them."""
    longer = LONGER.get(spec.vocab_size, 1.0)
    if plan.laws is None or longer == 1.0 or version is None or version >= SEEN_TO:
        return plan
    if not is_random_text(row):
        return plan
    prompts, outputs = plan.laws
    note = (
        f"prompts: {100 * (longer - 1):.1f}% longer than asked for, as vLLM's client before 0.9 "
        "sends random tokens as text (pull request 17408)"
    )
    laws = replace(prompts, mean=prompts.mean * longer), outputs
    return replace(plan, laws=laws, notes=(*plan.notes, note))
