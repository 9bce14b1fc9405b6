"""What a search keeps of a run: the columns that it reads, and the same answers."""

from pathlib import Path

import numpy as np
import pytest
from test_windows import study

from experiments.planning import trials
from experiments.planning.lengths import long_enough
from experiments.planning.probes import shorter
from experiments.planning.progress import Lines
from experiments.planning.promises import Promise
from experiments.planning.samples import READ, Sample, sample_of, waited
from experiments.running.local import Local
from experiments.running.pieces import NOTHING, is_whole, read_columns, read_piece, simulate_to
from workloads.arrivals import ClosedLoop, Poisson


def test_a_search_reads_the_same_of_a_piece_with_nothing_else(tmp_path: Path) -> None:
    point = study(process="poisson", rate_per_s=2)
    whole, short = tmp_path / f"{1:032x}.arrow", tmp_path / f"{2:032x}.arrow"
    simulate_to(whole, point, 3)
    simulate_to(short, point, 3, columns=READ)
    with pytest.raises(KeyError, match="expected \\['replica'\\]"):
        dict(read_columns(short, ["replica"]))
    assert list(dict(read_columns(short, READ))) == list(READ)
    assert is_whole(short)
    assert read_piece(short) == NOTHING
    one, other = sample_of(whole, point), sample_of(short, point)
    assert one.measured == other.measured > 1000
    assert (one.arrival_s == other.arrival_s).all()
    assert all((one.missed[key] == other.missed[key]).all() for key in one.missed)


@pytest.mark.parametrize(
    ("arrivals", "measured"),
    [
        (ClosedLoop(users=50), 1500 - 600),  # as much of them as of a whole run
        (Poisson(rate_per_s=2.0), 1500 - 150),
    ],
)
def test_a_short_run_leaves_out_the_rush_of_users_who_begin(
    arrivals: Poisson | ClosedLoop, measured: int
) -> None:
    whole = study()
    changes = {"duration_s": None, "num_requests": 6000, "arrivals": arrivals}
    workload = whole.workload.model_copy(update=changes)
    short = shorter(long_enough(whole.model_copy(update={"workload": workload}), 6000))
    assert short.workload.num_requests is not None
    assert short.warmup_fraction is not None
    assert short.workload.num_requests * (1 - short.warmup_fraction) == measured


def test_runs_of_an_earlier_call_do_not_count_for_the_time_left() -> None:
    """A hundred were there, one took ten seconds, and nine are left."""
    progress = Lines()
    progress.expect(110)
    progress.found(100)
    assert progress.left() == ""
    progress.done += 1
    progress.began_s -= 10  # a little more has passed
    assert progress.left() in ("about 90 s left", "about 2 min left")


def test_who_waited_among_those_that_miss() -> None:
    """Four miss: two by their first token, three by the others."""
    first = np.array([True, True, False, False, False])
    others = np.array([False, True, True, True, False])
    sample = Sample(np.arange(5.0), {"": first | others}, {"ttft_s": first, "tpot_s": others})
    assert waited([sample], Promise("", 0.01, ("ttft_s", "tpot_s"))) == 0.5
    assert waited([sample], Promise("", 0.01, ("tpot_s",))) == 0.0
    none = Sample(np.arange(2.0), {"": np.zeros(2, bool)}, {"ttft_s": np.zeros(2, bool)})
    assert waited([none], Promise("", 0.01, ("ttft_s",))) == 1.0


def test_the_oldest_answers_are_read_again_when_too_many_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two answers of four requests: the first of three is read once more."""
    read: list[int] = []

    def answer(path: Path, _: object) -> Sample:
        read.append(seeds[path])
        return Sample(np.arange(4.0), {"": np.zeros(4, dtype=np.bool_)}, {})

    monkeypatch.setattr(trials, "MOST_HELD", 8)
    monkeypatch.setattr(trials, "unfinished", lambda _: [])
    monkeypatch.setattr(trials, "sample_of", answer)
    point, search = study(), trials.Trials(tmp_path, Local(1), Lines())
    asked = [trials.Trial(point, seed, "point") for seed in (1, 2, 3)]
    seeds = {search._run(trial).path: trial.seed for trial in asked}
    assert [len(sample.arrival_s) for sample in search.ask(asked)] == [4, 4, 4]
    search.ask(asked[1:])
    assert read == [1, 2, 3]
    search.ask(asked[:1])
    assert read == [1, 2, 3, 1]
    assert (search.runs, search.requests, search.resumed) == (3, 12, 3)
