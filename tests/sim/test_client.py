"""The client: requests in flight, timeouts, and the API's time, as whole logs."""

import numpy as np
import pytest

from sim.measuring.caveats import caveats
from sim.measuring.latencies import request_latencies
from sim.measuring.metrics import summarise
from sim.recording.result import FINISHED, REJECTED, TIMED_OUT, UNFINISHED
from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import ApiTime
from sim.simulation import simulate
from tests.sim import small
from tests.sim.test_against_reference import assert_equal_to_reference

API = {"api_request_s": 0.01, "api_token_s": 0.001, "api_output_s": 0.005}


def test_at_most_so_many_are_in_flight_and_ttft_counts_from_sending() -> None:
    setup = small.scenario(client=ClientConfig(max_concurrency=1))
    result = simulate(setup, small.requests([0.0, 0.0, 0.001, 9.0], [5] * 4, [4] * 4))
    columns = result.requests
    # Each is sent when the one before has its last token; the last one finds nobody.
    assert columns["arrival_s"].tolist() == [0.0, 0.0, 0.001, 9.0]
    assert columns["sent_s"].tolist() == [0.0, *columns["finish_s"][:2].tolist(), 9.0]
    ttft_s = request_latencies(result)["ttft"]
    assert ttft_s == pytest.approx(ttft_s[0])
    assert request_latencies(result)["queue"].tolist() == [0.0] * 4


def test_a_rejected_request_makes_room_at_once() -> None:
    setup = small.scenario(client=ClientConfig(max_concurrency=1), max_model_len=40)
    columns = simulate(setup, small.requests([0.0] * 3, [50, 50, 5], [4] * 3)).requests
    assert columns["status"].tolist() == [REJECTED, REJECTED, FINISHED]
    assert columns["sent_s"].tolist() == [0.0] * 3


def test_api_time_lies_before_the_scheduler_and_after_the_step() -> None:
    requests = small.requests([1.0], [20], [3])
    bare, whole = (simulate(small.scenario(**api), requests).requests for api in ({}, API))
    assert whole["sent_s"] == 1.0
    assert whole["reached_s"] == whole["first_scheduled_s"] == 1.0 + (0.01 + 0.001 * 20)
    for name in ("first_token_s", "finish_s"):
        assert whole[name] - bare[name] == pytest.approx(0.01 + 0.001 * 20 + 0.005)


def test_a_short_prompt_overtakes_a_long_one_in_the_api() -> None:
    setup = small.scenario(max_num_seqs=1, **API)
    columns = simulate(setup, small.requests([0.0, 0.001], [400, 4], [2, 2])).requests
    assert columns["reached_s"].tolist() == [0.01 + 0.4, 0.001 + (0.01 + 0.004)]
    assert columns["first_scheduled_s"][1] < columns["first_scheduled_s"][0]


def test_a_user_goes_on_when_she_has_seen_the_answer() -> None:
    requests = small.requests([], [5] * 3, [2] * 3, users=1, think_s=[0.0, 0.1, 0.0])
    columns = simulate(small.scenario(**API), requests).requests
    finish_s = columns["finish_s"]
    assert columns["arrival_s"].tolist() == [0.0, finish_s[0] + 0.1, finish_s[1]]


def test_who_gives_up_leaves_the_batch_with_its_blocks() -> None:
    # Row 0 decodes 200 tokens, 1 ms each; given up after 50 ms, its seat goes to row 1.
    setup = small.scenario(client=ClientConfig(timeout_s=0.05), max_num_seqs=1)
    requests = small.requests([0.0, 0.04], [5, 5], [200, 10])
    result = simulate(setup, requests)
    columns = result.requests
    assert columns["status"].tolist() == [TIMED_OUT, FINISHED]
    assert columns["timed_out_s"][0] == 0.05
    assert np.isnan(columns["finish_s"][0])
    assert 0 < columns["first_token_s"][0] < 0.05
    end_s = result.step_end_s
    in_progress = end_s[np.searchsorted(end_s, 0.05)]
    assert columns["first_scheduled_s"][1] == in_progress
    assert result.total("blocks_held") == 0


def test_who_gives_up_in_the_queue_is_never_worked_on() -> None:
    # Row 0 decodes for 41 ms, row 2 then goes before row 1, which gives up after 50.
    setup = small.scenario(
        client=ClientConfig(timeout_s=0.05), max_num_seqs=1, order="priority"
    )  # fmt: skip
    result = simulate(setup, small.requests([0.0, 0.0, 0.03], [5] * 3, [40, 9, 30], [0, 1, 0]))
    assert result.requests["status"].tolist() == [FINISHED, TIMED_OUT, FINISHED]
    assert np.isnan(result.requests["first_scheduled_s"][1])


def test_an_answer_that_is_complete_at_the_last_moment_is_late() -> None:
    requests = small.requests([0.0], [5], [10])
    finish_s = float(simulate(small.scenario(), requests).requests["finish_s"][0])
    for timeout_s, status in ((finish_s, TIMED_OUT), (np.nextafter(finish_s, 1), FINISHED)):
        setup = small.scenario(client=ClientConfig(timeout_s=float(timeout_s)))
        assert simulate(setup, requests).requests["status"] == status
    # With the API on its way out, the engine is through and the client does not see it in time.
    setup = small.scenario(client=ClientConfig(timeout_s=finish_s + 0.001), api_output_s=0.002)
    late = simulate(setup, requests)
    assert late.requests["status"] == TIMED_OUT
    assert late.requests["timed_out_s"] == finish_s + 0.001
    assert late.step_end_s[-1] == finish_s


def test_what_was_under_way_when_the_clock_stopped_was_not_seen() -> None:
    requests = small.requests([0.0], [5], [10])
    finish_s = float(simulate(small.scenario(), requests).requests["finish_s"][0])
    setup = small.scenario(api_output_s=0.002)
    assert simulate(setup, requests, finish_s + 0.001).requests["status"] == UNFINISHED
    assert simulate(setup, requests, finish_s + 0.002).requests["status"] == FINISHED


def test_timed_out_requests_are_counted_and_latencies_are_those_of_the_others() -> None:
    setup = small.scenario(client=ClientConfig(timeout_s=0.06), max_num_seqs=2)
    rows = 60
    requests = small.requests([0.02 * i for i in range(rows)], [5] * rows, [40] * rows)
    result = simulate(setup, requests)
    values = summarise(result, setup, warmup_fraction=0.0)
    lost = values["timed_out"]
    assert 0 < lost < rows
    assert values["finished"] + lost == values["requests"] == rows
    assert values["measured_requests"] == rows - lost
    assert values["e2e_p99_s"] < 0.06
    assert f"{int(lost)} requests timed out: latencies are of the others" in caveats(values)
    assert values["slo_attainment"] == (rows - lost) / rows


@pytest.mark.parametrize("router", ["least_tokens", "least_requests", "power_of_two_choices"])
def test_routers_see_who_gave_up(router: str) -> None:
    rng = np.random.default_rng(1)
    rows = 80
    setup = small.scenario(
        replicas=3, router=router, max_num_seqs=2, api_token_s=1e-5, num_gpu_blocks=100,
        client=ClientConfig(timeout_s=0.04, max_concurrency=20),
    )  # fmt: skip
    requests = small.requests(
        np.cumsum(rng.exponential(2e-3, rows)).tolist(),
        rng.integers(1, 60, rows).tolist(), rng.integers(1, 60, rows).tolist(),
    )  # fmt: skip
    result = assert_equal_to_reference(setup, requests)
    assert (result.requests["status"] == TIMED_OUT).sum() > 5


def test_api_time_is_the_calibration_s_unless_given() -> None:
    assert small.scenario().api == ApiTime()
    assert not small.scenario().api
    assert small.scenario(**API).api == ApiTime(0.01, 0.001, 0.005)
