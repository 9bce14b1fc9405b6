"""Links that transfers share evenly: each against its own definition, and the work for many."""

from math import inf

import numpy as np
import pytest

from sim.links import Lane, Links, Transfer

SOURCE_S, SINK_S = (0.1, 0.3, 0.2), (0.2, 0.05, 0.4)


def ends_one_by_one(begins_s: np.ndarray, transfers: list[Transfer]) -> np.ndarray:
    """When each is over, looking at every transfer whenever one comes or goes."""
    left = np.ones(len(transfers))
    over_s = np.full(len(transfers), np.nan)
    now_s, going = 0.0, set[int]()
    while np.isnan(over_s).any():
        paces = {
            row: transfers[row].blocks
            * max(
                transfers[row].source_s
                * sum(transfers[one].source == transfers[row].source for one in going),
                transfers[row].sink_s
                * sum(transfers[one].sink == transfers[row].sink for one in going),
            )
            for row in going
        }
        next_s = min((now_s + left[row] * pace for row, pace in paces.items()), default=inf)
        came = [row for row in range(len(transfers)) if row not in going and np.isnan(over_s[row])]
        begin_s = min((float(begins_s[row]) for row in came), default=inf)
        until_s = min(next_s, begin_s)
        for row, pace in paces.items():
            left[row] -= (until_s - now_s) / pace
        now_s = until_s
        for row in list(going):
            if left[row] < 1e-12:
                going.remove(row)
                over_s[row] = now_s
        going |= {row for row in came if begins_s[row] == now_s}
    return over_s


def ends(begins_s: np.ndarray, transfers: list[Transfer]) -> np.ndarray:
    links, over_s = Links(), np.full(len(transfers), np.nan)
    for begin_s, transfer in [*zip(begins_s.tolist(), transfers, strict=True), (inf, None)]:
        while (next_s := links.next_end_s()) < inf and next_s <= begin_s:
            for over in links.ended(next_s):
                over_s[over.number] = next_s
        if transfer is not None:
            links.begin(transfer, begin_s)
    return over_s


def some(rng: np.random.Generator, count: int, replicas: int = 3) -> list[Transfer]:
    drawn = zip(*rng.integers(0, replicas, (2, count)), rng.integers(1, 9, count), strict=True)
    return [
        Transfer(number, int(source), replicas + int(sink), SOURCE_S[source], SINK_S[sink],
                 int(blocks))
        for number, (source, sink, blocks) in enumerate(drawn)
    ]  # fmt: skip


@pytest.mark.parametrize("gap_s", [0.1, 0.4, 3.0])
def test_each_has_its_part_of_both_links_at_every_moment(gap_s: float) -> None:
    rng = np.random.default_rng(7)
    transfers = some(rng, 60)
    begins_s = rng.exponential(gap_s, len(transfers)).cumsum()
    expected = ends_one_by_one(begins_s, transfers)
    assert ends(begins_s, transfers) == pytest.approx(expected, rel=1e-9)


def test_thousands_under_way_cost_no_more_each_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes or goes changes a pace for each pair of replicas."""
    changes = 0
    paced = Lane.paced

    def counted(lane: Lane, senders: int, readers: int, now_s: float) -> None:
        nonlocal changes
        changes += 1
        paced(lane, senders, readers, now_s)

    monkeypatch.setattr(Lane, "paced", counted)
    rng = np.random.default_rng(8)
    transfers = some(rng, 3000)
    over_s = ends(np.linspace(0.0, 1.0, len(transfers)), transfers)
    assert not np.isnan(over_s).any()
    assert changes <= 2 * len(transfers) * (3 + 3)
