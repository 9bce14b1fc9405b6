"""Tables of requests that no known program writes, by the names that people give such columns."""

import re
from collections.abc import Sequence
from dataclasses import replace

from workloads.traces.errors import listed
from workloads.traces.format import TraceFormat

TIMES = (
    "timestamp", "time", "datetime", "date", "created_at", "arrival", "arrival_time",
    "arrival_timestamp", "arrived_at", "start_time", "request_time", "request_timestamp",
)  # fmt: skip
PROMPTS = (
    "prompt_tokens", "prompt_length", "prompt_len", "num_prompt_tokens", "input_tokens",
    "input_length", "input_len", "num_input_tokens", "context_tokens", "tokens_in", "isl",
)  # fmt: skip
OUTPUTS = (
    "output_tokens", "output_length", "output_len", "num_output_tokens", "completion_tokens",
    "generated_tokens", "response_tokens", "answer_tokens", "tokens_out", "osl",
)  # fmt: skip
TABLE = TraceFormat(
    "table", TIMES[0], PROMPTS[0], OUTPUTS[0],
    "anybody: any of the usual names, each once", time_unit="date or given",
)  # fmt: skip
LENGTHS = TraceFormat("table_lengths", None, PROMPTS[0], OUTPUTS[0], TABLE.source)


def plain(name: str) -> str:
    """Return a name without what people write differently: case, blanks, ``_`` and ``-``."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def usual_format(names: Sequence[str]) -> TraceFormat | None:
    """Return the format of a table with one usual name each for prompts, answers and, perhaps,
    times; None for all others, also where two columns could be meant.
    """
    times, prompts, outputs = _meant(names)
    if len(prompts) != 1 or len(outputs) != 1 or len(times) > 1:
        return None
    form = TABLE if times else LENGTHS
    found = {form.prompt: prompts[0], form.output: outputs[0]}
    if form.time is not None:
        found[form.time] = times[0]
    return replace(form, aliases=found)


def said_twice(names: Sequence[str]) -> str | None:
    """Say which columns of a table could be meant by the same; None where that is not its fault."""
    times, prompts, outputs = _meant(names)
    if not prompts or not outputs:
        return None
    found = {"times": times, "prompt tokens": prompts, "output tokens": outputs}
    twice = [f"{what} ({listed(said)})" for what, said in found.items() if len(said) > 1]
    if not twice:
        return None
    kept = "one" if len(twice) == 1 else "one of each"
    return f"several columns could be the {' and the '.join(twice)}; rename all but {kept}"


def _meant(names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the columns that could be times, prompts and answers."""
    return _of(TIMES, names), _of(PROMPTS, names), _of(OUTPUTS, names)


def _of(words: Sequence[str], names: Sequence[str]) -> list[str]:
    known = {plain(word) for word in words}
    return [name for name in names if plain(name) in known]
