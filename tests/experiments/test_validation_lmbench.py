"""LMBench's ShareGPT client asks for the same 252 answers in every run."""

from pathlib import Path

import numpy as np
import pytest

from experiments.validation.rows import Run, row_of
from experiments.validation.traffic import Plan, plan_traffic
from tests.experiments.measured_runs import run

WORDS = {
    "workload": "sharegpt_output_0.5", "dataset": "lmbench_llmd", "isl_spec": "trace",
    "osl_spec": "trace", "request_rate_rps": "0.5", "n_requests": "252", "duration_s": "510",
    "isl_mean": "1147.7", "osl_mean": "217.5",
    "arrival_process": "LMBench open-loop (multi-round chat for synthetic, ShareGPT)",
}  # fmt: skip

FIRST = 654 + 36
"""Tokens of the first question, and of the template around it."""


def plan_of(**cells: str) -> Plan:
    row = row_of(run("lmbench/a_LMBench_sharegpt_output_0.5", **(WORDS | cells)))
    return plan_traffic(Run("a", (row,)), Path())


def test_its_conversations_are_asked_evenly_in_turns() -> None:
    plan = plan_of()
    assert any("LMBench's ShareGPT conversations" in note for note in plan.notes)
    assert not plan.is_random
    requests = plan.draw(0).requests
    assert np.diff(requests.arrival_s) == pytest.approx(np.full(251, 2.0))
    assert requests.prompt_tokens.mean() == pytest.approx(1147.7, rel=1e-3)
    assert requests.output_tokens.mean() == pytest.approx(217.5, rel=1e-3)
    # The first prompt has 690 tokens of 1,149 in the mean, and 275 tokens of 224 follow.
    assert requests.prompt_tokens[0] == round(1147.7 * FIRST / 1149.056)
    assert requests.output_tokens[0] == round(217.5 * 275 / 223.817)
    # After 55 conversations the first goes on: its text begins with all that was said before.
    assert requests.prefixes is not None
    streams = requests.prefixes.streams
    assert streams[0] == streams[55]
    assert len(set(streams[:55].tolist())) == 55
    assert requests.prompt_tokens[55] > requests.prompt_tokens[0]


def test_without_means_lengths_are_the_lists_own() -> None:
    requests = plan_of(isl_mean="", osl_mean="", n_requests="3").draw(0).requests
    assert requests.output_tokens.tolist()[:2] == [275, 332]
    assert requests.prompt_tokens.tolist()[0] == FIRST
    assert len(requests) == 3


@pytest.mark.parametrize(
    "cells",
    [
        {"workload": "long_input_short_output_0.5"},  # its synthetic client
        {"n_requests": "300"},  # of another list
        {"dataset": "mine", "arrival_process": "Poisson"},  # ShareGPT, asked by somebody else
    ],
)
def test_other_workloads_are_drawn(cells: dict[str, str]) -> None:
    row = row_of(run("a/0.5", **(WORDS | cells)))
    assert plan_traffic(Run("a", (row,)), Path()).is_random
