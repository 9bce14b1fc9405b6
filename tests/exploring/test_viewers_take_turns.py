"""Turns of several viewers: fair among them, in order for each, and none is lost."""

import asyncio

from live_study import in_a_loop

from experiments.exploring.turns import Turns


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(turns: Turns, told: list[str], *names: str) -> list["asyncio.Task[None]"]:
    """Wait for turns of viewers, each named by its first letter; note who has one."""

    async def one(name: str) -> None:
        await turns.take(name[0])
        told.append(name)

    return [asyncio.create_task(one(name)) for name in names]


def test_a_viewer_who_asks_for_little_does_not_wait_for_who_asks_for_much() -> None:
    async def moves() -> None:
        turns, told = Turns(1), list[str]()
        tasks = waiting(turns, told, "a1", "a2", "a3", "a4", "b1", "c1", "b2")
        for _ in tasks:
            await settled()
            turns.give(told[-1][0])
        await settled()
        assert told == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]

    in_a_loop(moves)


def test_who_has_fewer_turns_under_way_is_first() -> None:
    async def moves() -> None:
        turns, told = Turns(3), list[str]()
        tasks = waiting(turns, told, "b1", "a1", "a2", "a3", "a4", "b2", "c1")
        await settled()
        assert told == ["b1", "a1", "a2"]
        for viewer in "aaba":
            turns.give(viewer)
            await settled()
        assert told[3:] == ["c1", "a3", "b2", "a4"]
        await asyncio.gather(*tasks)

    in_a_loop(moves)


def test_whoever_leaves_takes_no_turn_along() -> None:
    """Whether still in the line, or when a turn was just given."""

    async def moves() -> None:
        turns, told = Turns(1), list[str]()
        _, gone, given, last = waiting(turns, told, "a1", "b1", "c1", "d1")
        await settled()
        gone.cancel()  # before it has left the line, the turn is given
        turns.give("a")
        given.cancel()  # it has the turn, and does not know yet
        await asyncio.gather(gone, given, return_exceptions=True)
        await settled()
        assert last.done()
        assert told == ["a1", "d1"]
        turns.give("d")
        async with turns.turn("e"):
            assert waiting(turns, told, "f1")
            await settled()
            assert told[-1] == "d1"
        await settled()
        assert told[-1] == "f1"

    in_a_loop(moves)
