"""What the charts of a page show of the requests of a point."""

import numpy as np
import pytest
from page_rows import SLO, requests, row

from experiments.reporting.page.curves import (
    BOUND_SLICES,
    EMPTY,
    KEPT,
    MISSED,
    RANKS,
    SOME,
    Moments,
    curves,
)
from experiments.reporting.page.data import page_data
from experiments.reporting.why import parts_of
from sim.measuring.percentiles import PERCENTS
from sim.measuring.slo import Slo


def test_curves_are_those_of_all_requests() -> None:
    columns = requests(4000)
    rows = parts_of(columns, 0.0)
    found = curves([columns], SLO, rows)
    ttft = columns["first_token_s"] - columns["sent_s"]
    assert found.quantiles["ttft"] == np.quantile(ttft, RANKS).tolist()
    assert found.quantiles["tpot"] == pytest.approx([0.1] * len(RANKS))
    assert list(found.parts) == ["ttft", "e2e"]
    for place, percent in enumerate(PERCENTS):
        for span, total in (("ttft", ttft), ("e2e", ttft + 1.0)):
            parts = {name: values[place] for name, values in found.parts[span].items()}
            assert parts["api"] == pytest.approx(0.01)
            assert sum(parts.values()) == pytest.approx(np.quantile(total, percent / 100), rel=0.15)
            at = [row for row in rows if row["span"] == span and row["percentile"] == percent]
            assert parts == {row["part"]: row["seconds"] for row in at}
    width_s = found.end_s / len(found.rate)
    assert sum(found.rate) * width_s == pytest.approx(4000)
    assert np.average(found.within, weights=found.rate) == pytest.approx((ttft <= 0.5).mean())


def test_who_would_have_come_after_the_clock_was_stopped_is_not_shown() -> None:
    columns = requests(4000)
    late = columns["arrival_s"] > 30
    columns["status"][late], columns["measured"][late] = 0, 0
    columns["status"][np.flatnonzero(~late)[-1]] = 0  # came, and has no answer
    found = curves([columns], SLO, ())
    assert 29 < found.end_s <= 30
    assert sum(found.rate) * found.end_s / len(found.rate) == pytest.approx((~late).sum())
    assert min(found.within) > 0


def test_limits_of_percentiles_alone_judge_the_run_over_time_as_well() -> None:
    columns = requests(4000)
    ttft = columns["first_token_s"] - columns["sent_s"]
    found = curves([columns], Slo(ttft_p99_s=0.5), ())
    assert np.average(found.within, weights=found.rate) == pytest.approx((ttft <= 0.5).mean())
    assert found.parts == {}
    lower = curves([columns], Slo(ttft_p90_s=0.5), ())
    assert np.nanmean(lower.ttft_tail_s) < np.nanmean(found.ttft_tail_s)


def test_a_part_that_is_new_in_the_table_is_shown_by_its_own_name() -> None:
    rows = [
        {"span": "ttft", "percentile": 99, "part": part, "seconds": seconds}
        for part, seconds in (("queue", 0.2), ("kv_transfer", 0.3))
    ]
    found = curves([requests(200)], SLO, rows)
    data = page_data("new", (), [row(1.0)], [found], SLO, clock=False)
    (span,) = data["spans"]
    assert (span["id"], span["parts"]) == ("ttft", ["queue", "KV transfer"])
    assert [values[-1] for values in data["points"][0]["parts"]["ttft"]] == [200, 300]


def test_what_binds_is_told_by_stretches_of_the_arrivals() -> None:
    columns = requests(4000)
    times = np.linspace(0.0, 120.0, 1201)
    names = ["seats" if time < 50 else "bandwidth" for time in times]
    found = curves([columns], SLO, (), Moments(times, names))
    seats, bandwidth = found.bound["seats"], found.bound["bandwidth"]
    assert len(seats) == len(bandwidth) == BOUND_SLICES
    assert seats[:19] == [1.0] * 19
    assert bandwidth[21:] == [1.0] * 19
    assert 0 < seats[20] + seats[19] < 2


def test_windows_of_several_runs_and_their_worst_hour() -> None:
    """Four windows of an hour; the second is slow in one run, the third in both, one is empty."""

    def run(slow: tuple[int, ...]) -> dict[str, np.ndarray]:
        columns = requests(300)
        hour = np.repeat([0, 1, 2], 100)
        sent = hour * 3600.0 + np.tile(np.linspace(0, 3500, 100), 3) + 3600.0
        ttft = np.where(np.isin(hour, slow), 2.0, 0.1)
        return columns | {
            "arrival_s": sent, "sent_s": sent, "first_token_s": sent + ttft,
            "finish_s": sent + ttft + 1,
        }  # fmt: skip

    found = curves([run((1, 2)), run((2,))], SLO, (), window_s=3600.0)
    assert found.windows == [EMPTY, KEPT, SOME, MISSED]
    assert found.worst_hour == (3, 1.0)
    assert curves([run(())], SLO, ()).windows == []
