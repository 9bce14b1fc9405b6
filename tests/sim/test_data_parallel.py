"""Ranks that compute every step together: equal to the slow reference, and what vLLM does."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import load_gpu
from model.mlps.experts import Experts
from model.spec import DecoderSpec
from sim.ceilings import ceilings_of
from sim.recording import recorder
from sim.recording.result import FINISHED
from sim.settings.cluster_config import NO_CLIENT, ClientConfig, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import can_be_split, simulate
from tests.sim import small
from tests.sim.random_clusters import WINDOWS, sessions, workloads
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.tries import tries
from workloads.requests import Requests

GPU = load_gpu("h100-sxm")


def mixture(windows: small.Windows = (None, None), dense: int = 0) -> DecoderSpec:
    """The tiny model with 8 experts, of which a token takes 2; the first layers may be dense."""
    spec = small.tiny_spec(windows)
    experts = Experts(hidden_size=64, num_experts=8, per_token=2, width=32)
    kinds = [
        replace(kind, mlp=kind.mlp if kind.places[0] < dense else experts) for kind in spec.layers
    ]
    return replace(spec, layers=tuple(kinds))


def of_ranks(
    *,
    dp: int,
    tp: int = 1,
    replicas: int = 1,
    router: str = "round_robin",
    windows: small.Windows = (None, None),
    spec: DecoderSpec | None = None,
    client: ClientConfig = NO_CLIENT,
    idle_start_s: float = 0.0,
    **engine: object,
) -> Scenario:
    """Engines of some ranks of a tiny mixture, with few blocks and a host that takes its time."""
    given: dict[str, object] = {
        **small.PLAIN, "version": "0.33", "enable_expert_parallel": True, "num_gpu_blocks": 64,
        "step_overhead_s": 1e-3, "sequence_overhead_s": 1e-5, "max_num_batched_tokens": 64,
        "max_num_seqs": 8, "block_size": 4,
    }  # fmt: skip
    prices = Calibration(name="small", source="a test", idle_start_s=idle_start_s)
    cluster = ClusterConfig(
        gpu="h100-sxm", tensor_parallel_size=tp, data_parallel_size=dp, replicas=replicas,
        router=router,
    )  # fmt: skip
    return build_scenario(
        spec or mixture(windows), GPU, cluster, EngineConfig.model_validate(given | engine),
        prices if idle_start_s else DATASHEET, client=client,
    )  # fmt: skip


@st.composite
def engines(draw: st.DrawFn) -> Scenario:
    windows = draw(WINDOWS)
    seats = draw(st.integers(1, 8))
    alike = len(windows) == 1
    ranks = draw(st.integers(2, 4))
    return of_ranks(
        dp=ranks,
        enable_expert_parallel=ranks == 3 or draw(st.booleans()),
        tp=draw(st.sampled_from([1, 1, 2])),
        replicas=draw(st.sampled_from([1, 1, 2])),
        router=draw(st.sampled_from(["round_robin", "least_requests"])),
        windows=windows,
        idle_start_s=draw(st.sampled_from([0.0, 2e-3])),
        version=draw(st.sampled_from(["0.12", "0.20", "0.27", "0.33"])),
        async_scheduling=draw(st.booleans()),
        enable_prefix_caching=alike and draw(st.booleans()),
        order=draw(st.sampled_from(["fcfs", "priority"])),
        max_num_seqs=seats,
        max_num_batched_tokens=seats + draw(st.integers(0, 60)),
        num_gpu_blocks=draw(st.integers(10, 60)),
        scheduler_reserve_full_isl=draw(st.booleans()),
        step_overhead_s=draw(st.sampled_from([0.0, 1e-3])),
        api_output_s=draw(st.sampled_from([0.0, 0.0, 3e-3])),
        client=ClientConfig(
            max_concurrency=draw(st.sampled_from([None, None, 3])),
            timeout_s=draw(st.sampled_from([None, None, 2e-2, 0.1])),
        ),
    )


@tries(80)
@given(engines(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_engines(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@st.composite
def drafting(draw: st.DrawFn) -> Scenario:
    method = draw(st.sampled_from(["mtp", "mtp", "draft_model", "ngram"]))
    rates = draw(st.sampled_from([[0.8], [0.7, 0.4], [0.9, 0.8, 0.5, 0.3]]))
    drafts: dict[str, object] = {
        "method": method,
        "num_speculative_tokens": len(rates),
        "synthetic_acceptance_rates": rates,
    }
    if method == "draft_model":
        drafts["model"] = str(small.draft_config())
    seats = draw(st.integers(1, 8))
    return of_ranks(
        dp=draw(st.sampled_from([2, 4])),
        tp=draw(st.sampled_from([1, 1, 2])),
        replicas=draw(st.sampled_from([1, 1, 2])),
        spec=replace(mixture(), architecture="glm4_moe"),
        router=draw(st.sampled_from(["round_robin", "least_requests"])),
        idle_start_s=draw(st.sampled_from([0.0, 2e-3])),
        async_scheduling=method != "ngram" and draw(st.booleans()),
        enable_prefix_caching=draw(st.booleans()),
        order=draw(st.sampled_from(["fcfs", "priority"])),
        max_num_seqs=seats,
        max_num_batched_tokens=seats + draw(st.integers(7, 60)),
        num_gpu_blocks=draw(st.integers(16, 60)),
        step_overhead_s=draw(st.sampled_from([0.0, 1e-3])),
        client=ClientConfig(timeout_s=draw(st.sampled_from([None, None, 2e-2, 0.1]))),
        speculative=drafts,
    )


@tries(80)
@given(drafting(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_engines_with_drafts(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


def predicting(**engine: object) -> Scenario:
    drafts: dict[str, object] = {
        "method": "mtp", "num_speculative_tokens": 3, "synthetic_acceptance_rates": [1.0] * 3,
    }  # fmt: skip
    drafts |= engine.pop("speculative", {})
    spec = replace(mixture(), architecture="glm4_moe")
    return of_ranks(spec=spec, speculative=drafts, **engine)


def test_whoever_has_nothing_computes_the_rows_of_one_sequence() -> None:
    """One request of 9 tokens: a prompt's, and two steps of four; the other rank goes along."""
    scenario = predicting(dp=2)
    steps = simulate(scenario, small.requests([0.0], [8], [9])).steps()
    of_rank = [
        [row for row, rank in zip(zip(*(steps[name].tolist() for name in
         ("decodes", "padding", "rows", "gained")), strict=True), steps["replica"], strict=True)
         if rank == number]
        for number in range(2)
    ]  # fmt: skip
    assert of_rank[0][:3] == [(0, 0, 0, 0), (1, 0, 4, 4), (1, 0, 4, 4)]
    assert of_rank[1][:3] == [(0, 1, 4, 0)] * 3


def test_ceilings_with_drafts_count_what_ranks_do_together() -> None:
    """A request that is alone is hardly below: its context, and the steps of its prompt."""
    scenario = predicting(dp=4, num_gpu_blocks=512)
    result = simulate(scenario, small.requests([0.0], [8], [401])).requests
    token_s = (result["finish_s"][0] - result["first_token_s"][0]) / 400
    assert 0.9 * token_s < ceilings_of(scenario.pool)["fastest_token_s"] < token_s
    cold = predicting(dp=1, first_request_s=1.0)
    assert ceilings_of(cold.pool) == ceilings_of(predicting(dp=1).pool)


def test_ranks_share_the_experts_of_a_drafter() -> None:
    alone, four = predicting(dp=1).pool.ledger, predicting(dp=4).pool.ledger
    expert = 3 * 64 * 32 * 2  # bytes: gate, up and down in 16 bits
    assert alone.drafter_bytes - four.drafter_bytes == 6 * expert


def test_ranks_make_as_many_drafts_in_all_batches() -> None:
    fewer = {"num_speculative_tokens_per_batch_size": [[1, 4, 3], [5, 8, 1]]}
    with pytest.raises(ValueError, match="per_batch_size with data_parallel_size = 2"):
        predicting(dp=2, speculative=fewer)


@tries(60)
@given(engines(), workloads())
def test_steps_are_handed_over_while_others_go_on(scenario: Scenario, requests: Requests) -> None:
    """What was recorded of one rank is taken when somebody ends there, not of the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "FULL_STEPS", 4)
        assert_equal_to_reference(scenario, requests)


@tries(40)
@given(engines(), sessions(), st.sampled_from([inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


def steps_of(scenario: Scenario, requests: Requests) -> list[list[tuple[float, ...]]]:
    """Start, end, decodes, dummies and prompt tokens of every step, by rank."""
    steps = simulate(scenario, requests).steps()
    names = ("start_s", "end_s", "decodes", "padding", "prefill_tokens")
    rows = list(zip(*(steps[name].tolist() for name in names), strict=True))
    owner = steps["replica"].tolist()
    return [
        [row for row, rank in zip(rows, owner, strict=True) if rank == number]
        for number in range(scenario.replicas)
    ]


def test_a_rank_without_work_computes_dummies_until_the_next_sync() -> None:
    """One request of 3 tokens: prefill and 2 decodes on rank 0, and dummies up to step 16."""
    scenario = of_ranks(dp=2)
    first, second = steps_of(scenario, small.requests([0.0], [20], [3]))
    assert [row[:2] for row in first] == [row[:2] for row in second]
    assert len(first) == 16
    assert [row[2:] for row in first[:4]] == [(0, 0, 20), (1, 0, 0), (1, 0, 0), (0, 1, 0)]
    assert {row[2:] for row in second} == {(0, 1, 0)}


@pytest.mark.parametrize(("version", "steps"), [("0.29", 32), ("0.30", 16)])
def test_all_pause_only_at_a_sync(version: str, steps: int) -> None:
    """One that comes while dummies run waits for the one in progress; its end is a sync later."""
    alone = steps_of(of_ranks(dp=2, version=version), small.requests([0.0], [20], [3]))
    assert len(alone[0]) == steps
    third = alone[0][steps - 3]
    within = (third[0] + third[1]) / 2
    both = steps_of(
        of_ranks(dp=2, version=version), small.requests([0.0, within], [20] * 2, [3, 5])
    )
    assert len(both[0]) == 2 * steps
    prefills = [row for rank in both for row in rank if row[4]]
    assert [row[0] for row in prefills] == [0.0, third[1]]


def test_a_single_step_is_enough_for_nobody_since_0_30() -> None:
    """A request of one token ends with the first step, after which all sync."""
    for version, steps in (("0.29", 32), ("0.30", 1)):
        first, _ = steps_of(of_ranks(dp=2, version=version), small.requests([0.0], [20], [1]))
        assert len(first) == steps


def test_the_slowest_rank_and_padding_decide() -> None:
    """Prices of a step of 40 tokens on one rank and of 1 on the other, by hand from the tables."""
    scenario = of_ranks(dp=2, max_num_batched_tokens=64)
    price = scenario.pool.price
    tables = price.together
    assert tables is not None
    first, _ = steps_of(scenario, small.requests([0.0], [40], [1]))
    # 40 tokens are beyond the largest graph (16, twice the seats): nobody pads.
    own_s = price.step_s(0, [0, 0][: len(price.windows)], [(40, 0)]) - price.token_s[40]
    apart_s = own_s + tables.token_s[40] + tables.most_s[40] + tables.total_s[41]
    assert first[0][1] == pytest.approx(apart_s, rel=1e-12)
    padded = of_ranks(dp=2, version="0.12")  # every step is padded there
    first, _ = steps_of(padded, small.requests([0.0], [40], [1]))
    assert first[0][1] == pytest.approx(own_s + tables.token_s[40] + tables.total_s[80], rel=1e-12)


def test_balancing_goes_by_what_waits_and_runs() -> None:
    """Two ranks; the first has one that runs: the next go to the second until both have as many."""
    requests = small.requests([0.0, 0.004, 0.0041, 0.0042], [8] * 4, [60] * 4)
    chosen = simulate(of_ranks(dp=2, version="0.20"), requests).requests["replica"]
    # What came a moment ago waits, and counts four times.
    assert chosen.tolist() == [0, 1, 0, 1]
    equal = small.requests([0.0] * 4, [8] * 4, [4] * 4)
    for version in ("0.20", "0.33"):
        chosen = simulate(of_ranks(dp=4, version=version), equal).requests["replica"]
        assert sorted(chosen.tolist()) == [0, 1, 2, 3]


def test_among_equals_ranks_take_turns_since_0_28() -> None:
    requests = small.requests([0.0, 1.0, 2.0], [8] * 3, [2] * 3)
    for version, ranks in (("0.27", [0, 0, 0]), ("0.28", [0, 1, 0])):
        chosen = simulate(of_ranks(dp=2, version=version), requests).requests["replica"]
        assert chosen.tolist() == ranks


def test_dense_ranks_know_nothing_of_each_other_since_0_14() -> None:
    dense, off = small.tiny_spec(), {"enable_expert_parallel": False}
    requests = small.requests([0.0], [20], [3])
    first, second = steps_of(of_ranks(dp=2, spec=dense, **off), requests)
    assert (len(first), len(second)) == (3, 0)
    first, second = steps_of(of_ranks(dp=2, spec=dense, version="0.13", **off), requests)
    assert len(first) == len(second) == 32
    alone = of_ranks(dp=1, spec=dense, **off).pool
    assert of_ranks(dp=2, spec=dense, **off).pool.price.token_s == alone.price.token_s


def test_nothing_is_lost_between_ranks() -> None:
    """Every request ends once, on the rank that it was sent to, with all of its tokens."""
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1e-3, 200)).tolist()
    outputs = rng.integers(1, 40, 200)
    requests = small.requests(arrivals, rng.integers(1, 60, 200).tolist(), outputs.tolist())
    scenario = of_ranks(dp=4, replicas=2, num_gpu_blocks=40)
    result = simulate(scenario, requests)
    assert (result.requests["status"] == FINISHED).all()
    assert set(result.requests["replica"].tolist()) == set(range(8))
    assert result.requests["preemptions"].sum() > 0
    steps = result.steps()
    for first in (0, 4):  # an engine of four ranks each
        ends = [steps["end_s"][steps["replica"] == first + rank].tolist() for rank in range(4)]
        assert ends[0] == ends[1] == ends[2] == ends[3]
    assert not can_be_split(scenario, requests)


@pytest.mark.parametrize(
    ("dp", "engine", "told"),
    [
        (3, {"enable_expert_parallel": False}, "3 does not divide the experts of tiny"),
        (
            2,
            {"enable_expert_parallel": False, "all2all_backend": "deepep_low_latency"},
            "deepep_low_latency without engine.enable_expert_parallel",
        ),
        (2, {"version": "0.9.2"}, "modelled from 0.11 on"),
        (16, {}, "16 ranks of tiny with 8 experts, expected at most one rank for each"),
        (2, {"scheduler": "prefill_first"}, "expected chunked_prefill"),
    ],
)
def test_what_is_not_modelled_is_refused(dp: int, engine: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        of_ranks(dp=dp, **engine)
