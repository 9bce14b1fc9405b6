"""A question is answered seed by seed: one is simulated ahead, of a setting and of its baseline."""

import asyncio
from typing import Any

import pytest
from live_study import in_a_loop

from experiments.exploring import question
from experiments.exploring.points import DIFFERENCES, Base, _differences
from experiments.exploring.question import Question
from experiments.exploring.turns import Turns
from experiments.reporting.records import Records
from sim.measuring.slo import Slo


class Simulated:
    """Workers whose runs end when they are let go, and a base without a first, shorter answer."""

    folder = None
    first_requests = None

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.given_up: list[str] = []
        self.let_go: dict[str, asyncio.Event] = {}

    def plan(self, settings: dict[str, Any], seeds: int, requests: int | None) -> tuple[str, int]:
        assert requests is None
        return settings["name"], seeds

    async def run(self, run: str, viewer: str) -> bool:
        self.begun.append(run)
        try:
            await self.let_go.setdefault(run, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.given_up.append(run)
            raise
        return run == "b1"  # whose worker had to begin again


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    def runs_of(plan: tuple[str, int], _: None) -> list[str]:
        return [f"{plan[0]}{seed}" for seed in range(plan[1])]

    def answer(plan: Any, runs: list[str], other: Any, others: list[str]) -> dict[str, Any]:
        return {"runs": [*runs], "others": [*others]}

    monkeypatch.setattr(question, "runs_of", runs_of)
    monkeypatch.setattr(question, "answer", answer)
    monkeypatch.setattr(question, "as_options", lambda settings: settings["name"])
    return Simulated()


def test_one_seed_is_simulated_ahead_and_no_more(simulated: Simulated) -> None:
    async def moves() -> None:
        asked: Any = Question(simulated, simulated, Turns(1), "viewer")
        answers = asked.answers({"name": "a"}, {"name": "b"}, 4)
        for seed in range(4):
            next_one = asyncio.ensure_future(anext(answers))
            await asyncio.sleep(0.05)
            ahead = range(min(seed + 2, 4))
            assert sorted({run[-1] for run in simulated.begun}) == [str(one) for one in ahead]
            assert not next_one.done()
            for run in (f"a{seed}", f"b{seed}"):
                simulated.let_go.setdefault(run, asyncio.Event()).set()
            told = await next_one
            assert told == {
                "runs": [f"a{one}" for one in range(seed + 1)],
                "others": [f"b{one}" for one in range(seed + 1)],
                "of": 4, "options": "a", "again": seed > 0,
            }  # fmt: skip
        with pytest.raises(StopAsyncIteration):
            await anext(answers)
        assert simulated.begun == ["a0", "a1", "b0", "a2", "b1", "a3", "b2", "b3"]
        assert not simulated.given_up

    in_a_loop(moves)


def test_who_leaves_wants_no_seed_any_more(simulated: Simulated) -> None:
    async def moves() -> None:
        asked: Any = Question(simulated, simulated, Turns(1), "viewer")
        answers = asked.answers({"name": "a"}, None, 3)
        simulated.let_go["a0"] = asyncio.Event()
        simulated.let_go["a0"].set()
        told = await anext(answers)
        assert (told["runs"], told["others"], told["again"]) == (["a0"], [], False)
        await answers.aclose()
        await asyncio.sleep(0)
        assert simulated.given_up == ["a1"]

    in_a_loop(moves)


@pytest.mark.parametrize(("warmup", "first"), [({}, 4000), ({"warmup_s": 300}, None)])
def test_no_first_look_that_may_end_before_the_warm_up(
    warmup: dict[str, Any], first: int | None
) -> None:
    assert Base({"workload": {"num_requests": 10_000}, **warmup}, "x", ()).first_requests == first


def test_percentiles_that_the_slo_limits_have_intervals() -> None:
    """Of seeds that differ, the difference of no percentile is exact."""
    names = ("tpot_p90_s", "ttft_p99_s", *DIFFERENCES)

    def side(values: list[float]) -> tuple[Records, dict[str, Any]]:
        table = {"seed": [0, 1, 2], "saturated": [0.0] * 3, **dict.fromkeys(names, values)}
        row = {"saturated": 0.0, "tpot_p90_s_attainment": 0.9}
        return Records(table), row | dict.fromkeys(names, sum(values) / 3)

    told = _differences(side([0.04, 0.05, 0.07]), side([0.03, 0.03, 0.04]), Slo(tpot_p90_s=0.05))
    (tail,) = (each for each in told if each["name"] == "TPOT p90, ms")
    assert tail["difference_lo"] < tail["difference"] < tail["difference_hi"]
