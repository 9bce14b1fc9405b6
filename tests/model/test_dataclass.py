"""Dataclasses that are made fast are those of the standard library in all that can be seen."""

import copy
import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from pathlib import Path
from typing import Any

import pytest

import model.dataclass

ROOT = Path(__file__).resolve().parents[2]
STANDARD: Any = dataclasses.dataclass
FAST: Any = model.dataclass.dataclass
MAKERS = pytest.mark.parametrize("make", [STANDARD, FAST], ids=["standard", "fast"])


def made(make: Any) -> dict[str, type]:
    """A class of every kind that the project has, by one of the two."""

    @make(frozen=True, slots=True)
    class Plain:
        """Two fields, one with a default."""

        width: int
        name: str = "unnamed"

        def doubled(self) -> "Plain":
            return replace(self, width=2 * self.width)

    @make(frozen=True, slots=True)
    class Child(Plain):
        """A field more, which is made anew for everybody, and one that nobody sees."""

        parts: list[int] = field(default_factory=list)
        hidden: int = field(default=3, repr=False, compare=False)

    @make(frozen=True, slots=True, kw_only=True)
    class Named:
        """By name alone; one field is computed, one has its default whatever is said."""

        width: int
        height: int = 2
        area: int = field(init=False)
        kind: str = field(default="flat", init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "area", self.width * self.height)

    @make(frozen=True)
    class Open:
        """Without slots."""

        width: int

    @make(slots=True)
    class Changing:
        """That may be set."""

        width: int
        seen: dict[str, int] = field(default_factory=dict)

    @make(frozen=True, slots=True, eq=False, repr=False)
    class Itself:
        """Equal to nothing else."""

        width: int

    @make
    class Bare:
        """Without a word."""

    return {each.__name__: each for each in (Plain, Child, Named, Open, Changing, Itself, Bare)}


def seen(make: Any) -> list[object]:
    """What can be seen of them: texts, comparisons, hashes, signatures, errors."""
    of = made(make)
    plain, child, named = of["Plain"](1), of["Child"](1, "a", [2]), of["Named"](width=3)
    objects = [plain, child, named, of["Open"](4), of["Changing"](5), of["Bare"]()]
    tries: list[Callable[[], object]] = [
        lambda: setattr(plain, "width", 2),
        lambda: delattr(child, "hidden"),
        lambda: of["Plain"](),
        lambda: of["Plain"](1, width=2),
        lambda: of["Named"](3),
        lambda: of["Named"](width=1, area=2),
        lambda: hash(child),
        lambda: hash(of["Changing"](5)),
        lambda: replace(named, area=3),
        lambda: plain < plain,
    ]
    return [
        *[repr(each) for each in objects],
        *[asdict(each) for each in objects],  # type: ignore[call-overload]
        *[hash(each) for each in (plain, named, of["Open"](4))],
        *[each == other for each in objects for other in objects],
        *[each == copy.deepcopy(each) for each in objects],
        *[str(inspect.signature(each)) for each in of.values()],
        *[[one.name for one in fields(each)] for each in of.values()],  # type: ignore[arg-type]
        *[getattr(each, "__match_args__", None) for each in of.values()],
        *[repr(each.__dataclass_params__) for each in of.values()],  # type: ignore[attr-defined]
        *[getattr(each, "__slots__", None) for each in of.values()],
        *[(each.__name__, each.__qualname__, each.__doc__) for each in of.values()],
        *[_error(attempt) for attempt in tries],
        repr(plain.doubled()),
        of["Child"](1, hidden=4) == of["Child"](1, hidden=5),
        of["Child"](1).parts is of["Child"](1).parts,
        of["Itself"](1) == of["Itself"](1),
        of["Plain"](1).__eq__(1),
    ]


def _error(attempt: Callable[[], object]) -> tuple[type[Exception], str]:
    with pytest.raises((AttributeError, TypeError, ValueError)) as error:
        attempt()
    return error.type, str(error.value)


@pytest.mark.parametrize("few", [0, 1, 10_000], ids=["written", "both", "filled"])
def test_they_are_those_of_the_standard_library(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.dataclass, "FEW", few)
    assert seen(FAST) == seen(STANDARD)


@FAST(frozen=True, slots=True)
class Kept:
    """That is kept in a file."""

    width: int
    parts: tuple[int, ...] = ()


def test_what_was_kept_is_read_again() -> None:
    one = Kept(3, (4, 5))
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.copy(one) == one
    assert {one: 1}[Kept(3, (4, 5))] == 1


@MAKERS
def test_what_holds_itself_has_a_text(make: Any) -> None:
    one = made(make)["Changing"](1)
    one.seen["self"] = one
    assert repr(one).endswith("Changing(width=1, seen={'self': ...})")


@MAKERS
def test_a_plain_child_may_set_what_it_adds(make: Any) -> None:
    class Adding(made(make)["Open"]):  # type: ignore[misc]
        pass

    one = Adding(1)
    one.extra = 2
    assert (one.width, one.extra) == (1, 2)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'width'"):
        one.width = 3


@pytest.mark.parametrize("parent", [STANDARD, FAST], ids=["of standard", "of fast"])
@MAKERS
@pytest.mark.parametrize("slots", [False, True])
def test_a_child_may_be_made_by_the_other(parent: Any, make: Any, slots: bool) -> None:
    """A policy or a mixer of a user's own inherits from one of ours."""

    @make(frozen=True, slots=slots)
    class Child(made(parent)["Plain"]):  # type: ignore[misc]
        extra: int = 0

    one = Child(1, extra=2)
    assert replace(one, width=3) == Child(3, extra=2) != Child(3)
    assert repr(one).endswith("Child(width=1, name='unnamed', extra=2)")
    for name in ("width", "extra"):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(one, name, 3)
        with pytest.raises(FrozenInstanceError, match=f"cannot delete field '{name}'"):
            delattr(one, name)
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
        make(type("Loose", (made(parent)["Plain"],), {}))
    with pytest.raises(TypeError, match="cannot inherit frozen dataclass from a non-frozen one"):
        make(frozen=True)(type("Locked", (made(parent)["Changing"],), {}))


def test_what_a_class_says_itself_stays() -> None:
    @FAST(frozen=True)
    class Own:
        width: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

        def __repr__(self) -> str:
            return "mine"

    assert Own(1) == Own(2)
    assert repr(Own(1)) == "mine"
    assert hash(Own(1)) == hash((1,))


def test_a_few_objects_cost_no_compiling() -> None:
    of = made(FAST)
    few = [of["Child"](number, hidden=4) for number in range(model.dataclass.FEW)]
    assert not inspect.isfunction(vars(of["Child"])["__init__"])
    more = [of["Child"](number, hidden=4) for number in range(model.dataclass.FEW)]
    assert inspect.isfunction(vars(of["Child"])["__init__"])
    assert few == more
    assert few[0].parts is not few[1].parts


def test_who_is_never_made_costs_no_compiling() -> None:
    of = made(FAST)
    assert not inspect.isfunction(vars(of["Plain"])["__init__"])
    assert inspect.isfunction(of["Plain"].__init__)
    assert inspect.isfunction(vars(of["Plain"])["__init__"])
    assert not inspect.isfunction(vars(of["Child"])["__init__"])


def test_all_rooms_but_the_compiled_make_them_so() -> None:
    code = "from setup import ROOMS; print(*ROOMS)"
    asked = [sys.executable, "-c", f"import setuptools; setuptools.setup = lambda **_: 0; {code}"]
    compiled = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    slow = re.compile(r"^from dataclasses import .*\bdataclass\b", re.MULTILINE)
    assert slow.search("from dataclasses import asdict, dataclass")
    found = [
        path.relative_to(ROOT).as_posix()
        for room in ("model", "hardware", "sim", "experiments")
        for path in sorted((ROOT / room).rglob("*.py"))
        if slow.search(path.read_text(encoding="utf-8"))
    ]
    assert set(found) <= set(compiled.split())
