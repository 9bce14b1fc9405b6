"""What a run says of an SLO, request by request; and how long a run of a search has to be."""

from typing import Any

import numpy as np
import pytest
from test_windows import study

from experiments.planning.lengths import long_enough
from experiments.planning.promises import promises_of
from experiments.planning.samples import MOST_STRAIN, Sample, binding, measured
from experiments.study.document import Study
from sim.measuring.slo import Slo
from sim.recording.result import FINISHED, REJECTED

SLO = Slo(ttft_s=0.5, tpot_s=0.1, e2e_p50_s=2)
LATE, SLOW, GOOD, LOST, WARM = 0, 1, 2, 3, 4


def told(*kinds: int, arrivals: list[float] | None = None) -> Sample:
    """Requests of eleven tokens: late, slow, good, rejected, or before what is measured."""
    arrival_s = np.arange(len(kinds), dtype=np.float64) if arrivals is None else np.array(arrivals)
    kind = np.array(kinds)
    first_s = arrival_s + np.where(kind == LATE, 1.0, 0.1)
    columns: dict[str, Any] = {
        "arrival_s": arrival_s,
        "sent_s": arrival_s,
        "first_token_s": np.where(kind == LOST, np.nan, first_s),
        "finish_s": np.where(kind == LOST, np.nan, first_s + np.where(kind == SLOW, 3.0, 0.5)),
        "output_tokens": np.full(len(kind), 11),
        "status": np.where(kind == LOST, REJECTED, FINISHED),
        "measured": (kind != WARM).astype(np.int8),
    }
    return measured(columns, SLO)


def test_who_is_not_answered_missed_everything() -> None:
    found = told(GOOD, LATE, SLOW, LOST, WARM)
    assert found.measured == 4
    assert {key: mask.tolist() for key, mask in found.by_limit.items()} == {
        "ttft_s": [False, True, False, True],
        "tpot_s": [False, False, True, True],
        "e2e_p50_s": [False, False, True, True],
    }
    together, median = promises_of(SLO)
    assert found.missed[together.key].tolist() == [False, True, True, True]
    assert found.missed[median.key].tolist() == [False, False, True, True]


def test_the_strain_is_the_mean_of_the_largest_parts_of_limits() -> None:
    assert told(GOOD).strain == pytest.approx(0.5)  # 50 ms a token, of 100
    assert told(LATE, SLOW).strain == pytest.approx((2.0 + 3.0) / 2)  # of TTFT, of TPOT
    assert told(LOST, WARM).strain == MOST_STRAIN


def test_requests_are_in_order_of_arrival_whatever_the_table_s() -> None:
    found = told(LATE, GOOD, GOOD, GOOD, arrivals=[9.0, 3.0, 1.0, 2.0])
    assert found.arrival_s.tolist() == [1, 2, 3, 9]
    assert found.batches(promises_of(SLO)[0], 2) == ((0, 2), (1, 2))


def test_who_arrives_after_the_last_window_is_in_it() -> None:
    missed, of = told(GOOD, LATE, LATE, GOOD, arrivals=[0.0, 4.9, 10.0, 12.0]).windows(5.0, 2)
    assert of.tolist() == [2, 2]
    assert missed[""].tolist() == [1, 1]


def test_the_limit_that_most_miss_binds() -> None:
    promises = promises_of(SLO)
    assert binding([told(LATE, LATE, SLOW, GOOD)], promises[:1]) == ("ttft_s", 2 / 3)
    assert binding([told(LATE, GOOD), told(SLOW, SLOW)], promises[:1]) == ("tpot_s", 2 / 3)
    nothing, share = binding([told(GOOD)], promises[:1])
    assert nothing == ""
    assert np.isnan(share)


def searched(rate: float, e2e_s: float, **cluster: object) -> Study:
    whole = study(process="poisson", rate_per_s=rate)
    raw = whole.model_dump(mode="json") | {"slo": {"e2e_s": e2e_s}}
    raw["cluster"] = {"gpu": "t4", **cluster}
    raw["engine"] = {"max_num_seqs": 64}
    return Study.model_validate(raw)


@pytest.mark.parametrize(
    ("given", "requests"),
    [
        (searched(2, 1), 1000),
        (searched(2, 1, replicas=8, router="round_robin"), 4000),  # eight queues
        (searched(2, 1, replicas=8, router="least_requests"), 1000),  # one
        (searched(20, 100), 20 * 64),  # as many as there are seats
        (searched(20, 3), 20 * 60),  # 20 a second, three seconds each
    ],
)
def test_runs_are_as_long_as_queues_and_seats_ask_for(given: Study, requests: int) -> None:
    found = long_enough(given, 1000)
    assert (found.workload.num_requests, found.workload.duration_s) == (requests, None)
