"""Conversations that LMBench asks, where a row names its ShareGPT workload.

Its client (github.com/LMCache/LMBench, sharegpt/sharegpt-qa.py, Apache-2.0) sends the 252 prompts
of sharegpt/run.json in their order, one every 1 / qps seconds, whatever has been answered. They are
the third and later questions of 55 conversations, each behind all that was said before, in turns;
a number in front keeps runs apart. The file beside this one has their tokens, by the vocabulary
that Llama 3's extends (cl100k), and the answers', which the client sets as the most to generate.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from experiments.validation.per_request import Recorded
from experiments.validation.rows import RunRow

FILE = Path(__file__).with_name("lmbench_sharegpt.csv")
TEMPLATE_TOKENS = 36
"""What the chat template of Llama 3.1 puts around a question."""


def asked(row: RunRow) -> tuple[Recorded, str] | None:
    """Return the requests of a row that LMBench's ShareGPT client sent, and what was assumed.

    Lengths are in proportion to the list's, of the row's own means. None for any other row.
    """
    words = f"{row.dataset} {row.run_id} {row.workload} {row.arrival_process} {row.notes}".lower()
    rate_per_s = row.request_rate_rps
    if "lmbench" not in words or not re.search(r"sharegpt[_ -]?(?:output|qa|workload|run)", words):
        return None
    conversation, questions, answers = _list()
    count = row.n_requests or len(questions)
    if not rate_per_s or count > len(questions):
        return None
    prompts, answers = questions[:count] + TEMPLATE_TOKENS, answers[:count]
    prompts = prompts * (row.isl_mean / prompts.mean() if row.isl_mean else 1.0)
    outputs = answers * (row.osl_mean / answers.mean() if row.osl_mean else 1.0)
    recorded = Recorded(
        arrival_s=np.arange(count) / rate_per_s,
        prompt_tokens=np.maximum(1, np.rint(prompts)).astype(np.int64),
        output_tokens=np.maximum(1, np.rint(outputs)).astype(np.int64),
        identity=conversation[:count],
        prefixes=None,
        timeout_s=None,
    )
    return recorded, "requests: LMBench's ShareGPT conversations, evenly spaced, with these means"


@cache
def _list() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conversation, tokens of the question and of the answer, of each request."""
    table = np.loadtxt(FILE, delimiter=",", skiprows=1, dtype=np.int64)
    return table[:, 0], table[:, 1], table[:, 2]
