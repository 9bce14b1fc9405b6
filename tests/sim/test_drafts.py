"""Speculative decoding: how many steps, which tokens when, and what is refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from hardware.gpu import load_gpu
from model.acceptance import measured_acceptance
from model.spec import load_spec
from sim.ceilings import ceilings_of
from sim.machines import priced_machine
from sim.measuring.metrics import summarise
from sim.measuring.steady_state import Window
from sim.measuring.step_totals import step_totals
from sim.measuring.token_gaps import token_gaps
from sim.recording.result import FINISHED, Result
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.resolved_engine import resolved
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import simulate
from tests.sim import small
from workloads.requests import Requests

EVERYTHING = Window(np.ones(1, dtype=np.bool_), -1.0, 1e9, burst=False)


def drafting(rates: list[float], method: str = "ngram", **engine: object) -> Scenario:
    drafts = {
        "method": method,
        "num_speculative_tokens": len(rates),
        "synthetic_acceptance_rates": rates,
    }
    return small.scenario(speculative=drafts, **engine)


def many(rows: int = 60, seed: int = 3) -> Requests:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(2e-3, rows)).tolist()
    return small.requests(
        arrivals, rng.integers(1, 120, rows).tolist(), rng.integers(1, 90, rows).tolist()
    )


def counts(result: Result, name: str) -> int:
    return int(np.asarray(result.segments[name]).sum())


@pytest.mark.parametrize(("rates", "gained"), [([1.0] * 3, 4), ([0.0] * 3, 1), ([1.0, 0.0], 2)])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_request_alone_takes_as_many_steps_as_its_tokens_need(
    rates: list[float], gained: int, ahead: bool
) -> None:
    scenario = drafting(rates, "eagle", async_scheduling=ahead)
    result = simulate(scenario, small.requests([0.0], [20], [42]))
    decodes = np.asarray(result.segments["decodes"])
    assert decodes.sum() == -(-41 // gained)
    assert counts(result, "gained") == 41
    # Ahead, an end that is not foreseen is seen one step later, by a step for nobody.
    last = 41 - gained * (41 // gained) or gained
    assert np.asarray(result.segments["padding"]).sum() == int(ahead and last > 1)
    (tpot_s,) = [(r["finish_s"] - r["first_token_s"]) / 41 for r in [_row(result)]]
    assert summarise(result, scenario, warmup_fraction=0.0)["tpot_mean_s"] == pytest.approx(tpot_s)


def _row(result: Result) -> dict[str, float]:
    return {name: float(column[0]) for name, column in result.requests.items()}


@pytest.mark.parametrize("method", ["ngram", "eagle"])
def test_what_is_right_does_not_depend_on_how_it_is_scheduled(method: str) -> None:
    rates, found = [0.8, 0.5, 0.3], set()
    for engine in (
        {"max_num_seqs": 2}, {"max_num_seqs": 64}, {"max_num_seqs": 8, "num_gpu_blocks": 30},
        {"max_num_batched_tokens": 600},
    ):  # fmt: skip
        result = simulate(drafting(rates, method, **engine), many())
        assert (np.asarray(result.requests["status"]) == FINISHED).all()
        if not result.requests["preemptions"].any():
            found.add((counts(result, "decodes"), counts(result, "gained")))
    assert len(found) == 1


@pytest.mark.parametrize("ahead", [False, True])
def test_drafts_are_accepted_or_wasted_and_all_tokens_arrive(ahead: bool) -> None:
    scenario, requests = drafting([0.8, 0.5], "eagle", async_scheduling=ahead), many()
    result = simulate(scenario, requests)
    metrics = summarise(result, scenario, warmup_fraction=0.0)
    assert counts(result, "gained") == (requests.output_tokens - 1).sum()
    assert counts(result, "drafted") == 2 * counts(result, "decodes")
    (totals,) = step_totals(result, EVERYTHING, scenario.kinds)
    assert totals.gained_tokens == counts(result, "gained")
    assert totals.drafted == counts(result, "drafted")
    assert metrics["acceptance_length_mean"] == pytest.approx(2.3, abs=0.15)
    gaps = list(token_gaps(result))
    assert sum(int(each.weight.sum()) for each in gaps) == (requests.output_tokens - 1).sum()
    at_once = sum(int(each.weight[each.gap_s == 0].sum()) for each in gaps)
    assert at_once == counts(result, "gained") - counts(result, "decodes")


def test_no_drafts_is_the_same_as_none() -> None:
    given = {
        "method": "mtp", "num_speculative_tokens": 0,
        "acceptance_table": "glm-5.2-mtp-coding-thinking",
    }  # fmt: skip
    small.assert_same(
        simulate(small.scenario(speculative=given), many()), simulate(small.scenario(), many())
    )


def test_fewer_drafts_in_larger_batches() -> None:
    drafts = {
        "method": "eagle", "num_speculative_tokens": 3, "synthetic_acceptance_rates": [1.0] * 3,
        "num_speculative_tokens_per_batch_size": [[1, 1, 3], [2, 3, 1], [4, 9, 0]],
    }  # fmt: skip
    for users, gained in ((1, 4), (3, 2), (6, 1)):
        requests = small.requests([0.0] * users, [5] * users, [33] * users)
        result = simulate(small.scenario(speculative=drafts), requests)
        first = int(np.flatnonzero(result.segments["decodes"])[0])
        assert result.segments["gained"][first] == users * gained


def test_eagle_computes_the_last_block_that_is_found_again() -> None:
    prefixes = small.shared_prompts([40, 40])
    for method, cached in (("ngram", 32), ("eagle", 16)):
        scenario = drafting([0.5], method, enable_prefix_caching=True)
        requests = small.requests([0.0, 1.0], [40, 40], [5, 5], prefixes=prefixes)
        result = simulate(scenario, requests)
        assert result.requests["cached_tokens"].tolist() == [0, cached]


def test_blocks_of_rejected_drafts_are_kept() -> None:
    """k rows more, and k positions of the drafter behind them, from the first step on."""
    plain = simulate(small.scenario(block_size=1), small.requests([0.0], [20], [3]))
    result = simulate(drafting([0.0] * 4, "eagle", block_size=1), small.requests([0.0], [20], [3]))
    assert plain.segments["kv_blocks"].tolist() == [20, 22]
    assert result.segments["kv_blocks"].tolist() == [24, 29, 30]


def test_ceilings_hold_where_all_drafts_are_right() -> None:
    scenario = drafting([1.0] * 3, max_num_seqs=8)
    found, plain = ceilings_of(scenario.pool), scenario.pool.price.ceilings()
    requests = small.requests([0.0] * 8, [1] * 8, [400] * 8)
    metrics = summarise(simulate(scenario, requests), scenario, warmup_fraction=0.0)
    assert plain["output_tokens_per_s"] < metrics["output_tokens_per_s"]
    assert metrics["output_tokens_per_s"] < found["output_tokens_per_s"]
    assert found["fastest_token_s"] < metrics["tpot_p50_s"] < plain["fastest_token_s"]
    assert ceilings_of(small.scenario().pool) == small.scenario().pool.price.ceilings()


@pytest.mark.parametrize("drafts", [1, 3])
def test_a_pass_with_one_row_a_sequence_costs_what_it_cost(drafts: int) -> None:
    scenario = drafting([0.5] * drafts)
    machine, price = priced_machine(scenario.pool), scenario.pool.price
    for decodes, reads, chunks in ((1, 9, []), (7, 700, [(30, 10)]), (0, 0, [(5, 0), (9, 0)])):
        assert machine.step_s(decodes, decodes, min(decodes, 1), [reads], chunks) == (
            pytest.approx(price.step_s(decodes, reads, chunks), rel=1e-12)
        )


def test_rates_of_measured_lengths_add_up() -> None:
    for measured in measured_acceptance().values():
        for tokens in range(1, len(measured.lengths) + 1):
            rates = measured.rates(tokens)
            assert rates == sorted(rates, reverse=True)
            assert 1 + sum(rates) == pytest.approx(measured.lengths[tokens - 1], abs=1e-9)


REFUSED = {
    "none of them given": {"method": "ngram", "num_speculative_tokens": 2},
    "2 entries, expected 3": {
        "method": "ngram", "num_speculative_tokens": 3, "synthetic_acceptance_rates": [0.5, 0.4],
    },
    "expected no entry above": {
        "method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_rates": [0.5, 0.6],
    },
    "expected at most 3": {
        "method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_length": 3.5,
    },
    "without model": {
        "method": "draft_model", "num_speculative_tokens": 2, "synthetic_acceptance_length": 2,
    },
    "expected no model": {
        "method": "mtp", "model": "gpt2", "num_speculative_tokens": 1,
        "synthetic_acceptance_length": 1.5,
    },
    "ranges in order": {
        "method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_length": 2,
        "num_speculative_tokens_per_batch_size": [[2, 4, 1]],
    },
    "requests cannot differ more": {
        "method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_length": 2,
        "acceptance_length_std": 1.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("told", REFUSED)
def test_settings_that_contradict_themselves(told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EngineConfig.model_validate({"speculative": REFUSED[told]})


@pytest.mark.parametrize(
    ("model", "engine", "told"),
    [
        ("llama-3-8b", {"scheduler": "static"}, "expected chunked_prefill"),
        ("llama-3-8b", {"version": "0.29"}, "expected 0.30 or later"),
        ("llama-3-8b", {"async_scheduling": True}, "n-grams up on the host"),
        ("llama-3-8b", {"max_num_batched_tokens": 3, "max_num_seqs": 2}, "expected at least 4"),
        ("llama-3-8b", {"long_prefill_token_threshold": 3}, "expected 0 or at least 4"),
        ("qwen3-next-80b-a3b", {"enable_prefix_caching": True}, "what prompts share"),
        ("deepseek-v4-pro", {}, "expected a model whose entries stand for one token"),
    ],
)
def test_what_does_not_go_with_drafts_is_refused(
    model: str, engine: dict[str, object], told: str
) -> None:
    drafts = {
        "method": "ngram", "num_speculative_tokens": 3, "synthetic_acceptance_length": 2.0,
    }  # fmt: skip
    given = EngineConfig.model_validate({"speculative": drafts, "max_model_len": 4096} | engine)
    spec, gpu = load_spec(model), load_gpu("h100-sxm")
    with pytest.raises(ValueError, match=told):
        build_scenario(spec, gpu, ClusterConfig(gpu="h100-sxm", tensor_parallel_size=4), given)


@pytest.mark.parametrize(
    ("method", "more", "told"),
    [
        ("mtp", {}, "expected a model with one layer for further tokens"),
        ("draft_model", {"model": "qwen2.5-0.5b"}, "drafts are the target's tokens"),
        ("eagle", {"model": "llama-3.2-1b"}, "hidden size of 2048"),
    ],
)
def test_drafters_that_do_not_fit_are_refused(
    method: str, more: dict[str, object], told: str
) -> None:
    drafts = {
        "method": method, "num_speculative_tokens": 2, "synthetic_acceptance_length": 2.0, **more,
    }  # fmt: skip
    given = EngineConfig.model_validate({"speculative": drafts, "max_model_len": 4096})
    with pytest.raises(ValueError, match=told):
        build_scenario(
            load_spec("llama-3-8b"), load_gpu("h100-sxm"), ClusterConfig(gpu="h100-sxm"), given
        )


def test_ngram_is_not_scheduled_ahead() -> None:
    drafts = {"method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_length": 2.0}
    given = EngineConfig.model_validate({"speculative": drafts, "version": "0.33"})
    found = resolved(given, load_gpu("h100-sxm"), load_spec("llama-3-8b"))
    assert found.async_scheduling is False
