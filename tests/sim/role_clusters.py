"""Random clusters whose pools have roles."""

from dataclasses import replace
from math import inf

import numpy as np
from hypothesis import strategies as st

from sim.recording.handovers import HANDOVER_COLUMNS
from sim.recording.result import Result
from sim.settings.cluster_config import ClientConfig
from sim.settings.kv_transfer import KvTransferConfig
from sim.settings.registry import ORDERS
from sim.settings.scenario import Scenario
from tests.reference_handovers import Handovers
from tests.sim import small
from tests.sim.random_clusters import PLAIN_ROUTERS
from tests.sim.test_against_reference import compare, exactly
from workloads.requests import Requests


def with_roles(
    *pools: tuple[str, Scenario],
    kv_transfer: KvTransferConfig | None = None,
    prefill_router: str | None = None,
) -> Scenario:
    """The pools of scenarios with roles; router, client, API and seed are those of the first."""
    first = pools[0][1]
    named = tuple(
        replace(each.pool, name=f"p{number}", role=role)
        for number, (role, each) in enumerate(pools)
    )
    return replace(
        first, pools=named, prefill_router=prefill_router,
        kv_transfer=kv_transfer or KvTransferConfig(),
    )  # fmt: skip


GROUPS = ((None, 5), (30, 9, None), (7, 40), (None, small.CHUNK, small.CHUNK), (None, 5, 5))
"""Windows of layers that do not keep equally much."""
STATES = (
    (None, small.STATE, small.STATE), (12, small.STATE), (None, small.SCAN), (None, 5, small.STATE),
)  # fmt: skip
"""And of layers beside others that keep a state."""


@st.composite
def disaggregated(
    draw: st.DrawFn, windows: tuple[tuple[int | None, ...], ...] = ((None, None),)
) -> Scenario:
    whole = st.sampled_from
    size = draw(whole([1, 4, 16]))
    layers = draw(whole(windows))
    version = draw(whole(["0.33", "0.33", "0.22"]))
    common = {
        "router": draw(whole(PLAIN_ROUTERS)),
        "seed": draw(st.integers(0, 3)),
        "block_size": size,
        "step_overhead_s": draw(whole([0.0, 1e-3])),
        "api_request_s": draw(whole([0.0, 0.0, 2e-3])),
        "api_token_s": draw(whole([0.0, 1e-4])),
        "api_output_s": draw(whole([0.0, 0.0, 3e-3])),
        "client": ClientConfig(
            max_concurrency=draw(whole([None, None, 3, 8])),
            timeout_s=draw(whole([None, None, 2e-3, 2e-2, 0.1])),
        ),
    }

    def pool() -> Scenario:
        seats = draw(st.integers(1, 12))
        retention = draw(whole([None, "dense", 0, 3 * size]))
        caching = draw(st.booleans()) and not {small.STATE, small.SCAN} & {*layers}
        keeps = caching and len({*layers}) > 1 and version != "0.22"
        return small.scenario(
            **common,
            windows=layers,
            version=version,
            prefix_cache_retention_interval=retention if keeps else None,
            replicas=draw(whole([1, 1, 2, 3])),
            enable_prefix_caching=caching,
            async_scheduling=draw(st.booleans()),
            idle_start_s=draw(whole([0.0, 0.0, 2e-3])),
            order=draw(whole([*ORDERS])),
            max_num_seqs=seats,
            max_num_batched_tokens=seats + draw(st.integers(0, 80)),
            long_prefill_token_threshold=draw(whole([0, 0, 7])),
            num_gpu_blocks=draw(st.integers(8, 80)),
            watermark=draw(whole([0.0, 0.05])),
            scheduler_reserve_full_isl=draw(st.booleans()),
            long_prefill_limits_alone=draw(st.booleans()),
            reuse_unhashed_first=draw(st.booleans()),
            max_model_len=draw(whole([40, 200, None])),
        )

    more = draw(whole([[], [], ["serve"], ["decode"], ["prefill"]]))
    order = draw(st.permutations(["prefill", "decode", *more]))
    least = draw(whole([None, 1, 10, 40]))
    transfer = KvTransferConfig(
        decider="always" if least is None else "prefix_based",
        non_cached_tokens=least,
        latency_s=draw(whole([0.0, 1e-3, 2e-2])),
        bandwidth_gb_s=draw(whole([1e-3, 1e-2, 1.0])),
        per_descriptor_us=draw(whole([0.0, 1.0, 50.0])),
        kv_lease_duration=draw(whole([1e-3, 30.0])),
    )
    router = draw(whole([None, *PLAIN_ROUTERS]))
    pools = [(role, pool()) for role in order]
    return with_roles(*pools, kv_transfer=transfer, prefill_router=router)


def assert_equal(scenario: Scenario, requests: Requests, stop_s: float = inf) -> Result:
    """Everything as the reference has it, and where each request was when."""
    result, expected = compare(scenario, requests, stop_s, Handovers)
    for row, seq in enumerate(expected["seqs"]):
        journey = expected["world"].journeys.get(seq)
        got = {name: result.requests[name][row] for name in HANDOVER_COLUMNS}
        assert got["prefill_replica"] == (-1 if journey is None else journey.source)
        for name in (*HANDOVER_COLUMNS,)[2:]:
            missing = np.nan if name.endswith("_s") else 0
            value = missing if journey is None else getattr(journey, name)
            exactly(got[name], value, f"row {row} {name}")
    return result
