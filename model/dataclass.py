"""``dataclass`` of the standard library, made in a tenth of the time: a study loads two hundred.

``dataclasses`` of Python 3.11 writes six methods of a frozen class as text and compiles each, every
time Python starts. Here it finds fields, defaults and slots; comparisons, texts and locks are
closures, and ``__init__`` is compiled once somebody looks at it or makes more than a few objects,
which most studies do of one class in six. A class behaves as it would otherwise, to its signature
and its messages, and ``fields``, ``replace`` and ``asdict`` know it.

Rooms that are compiled, and ``workloads``, which knows nobody, use ``dataclasses``.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """Decorate as ``dataclasses.dataclass``: frozen, eq, repr, slots, kw_only; no InitVar."""
        return partial(_made, **options) if cls is None else _made(cls, **options)


def _made(
    cls: type,
    frozen: bool = False,
    eq: bool = True,
    repr: bool = True,
    slots: bool = False,
    kw_only: bool = False,
) -> type:
    own = {name for name, value in vars(cls).items() if value is not None}
    # Whether what it inherits from is frozen as well, the standard library sees to.
    locked = frozen and any(map(dataclasses.is_dataclass, cls.__mro__[1:]))
    bare = dataclasses.dataclass(
        init=False, repr=False, eq=False, slots=slots, kw_only=kw_only, frozen=locked
    )
    made: type = bare(cls)
    params = made.__dataclass_params__  # type: ignore[attr-defined]
    params.init, params.repr, params.eq, params.frozen = True, repr, eq, frozen
    fields = dataclasses.fields(made)
    methods: dict[str, Any] = {"__init__": _UnwrittenInit(made, frozen)}
    if repr:
        methods["__repr__"] = _shown([field.name for field in fields if field.repr])
    if eq:
        values = _values([field.name for field in fields if field.compare])
        methods["__eq__"] = _compared(values)
        methods["__hash__"] = _hashed(values) if frozen else None
    if frozen and not locked:
        methods |= _locks(made, frozenset(field.name for field in fields))
    if frozen and slots:
        methods |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


FEW = 8
"""Objects of a class that are filled field by field; to compile its ``__init__`` takes as long as
thirty."""


class _UnwrittenInit:
    """``__init__`` of a class, which is written when it is looked at, or after ``FEW`` objects."""

    def __init__(self, cls: type, frozen: bool) -> None:
        self.cls = cls
        self.frozen = frozen
        self.filled = 0

    def __get__(self, instance: object, owner: type) -> Any:
        # ``inspect`` of Python 3.13 and later asks with the class in place of an object.
        if self.filled < FEW and isinstance(instance, self.cls):
            self.filled += 1
            return partial(self._fill, instance)
        return self._written().__get__(instance, owner)

    def _written(self) -> Any:
        written = _written_init(self.cls, self.frozen)
        setattr(self.cls, "__init__", written)  # noqa: B010 - mypy takes no assignment
        return written

    def _fill(self, instance: Any, /, *given: Any, **named: Any) -> None:
        """Do what the written one would do; what is wrong with the arguments, that one says."""
        fields = dataclasses.fields(self.cls)
        taken = [field for field in fields if field.init]
        by_place = (each.name for each in taken if not each.kw_only)
        said = named | dict(zip(by_place, given, strict=False))
        needed = {each.name for each in taken if not _has_default(each)}
        known = {each.name for each in taken}
        if len(said) < len(given) + len(named) or not needed <= said.keys() <= known:
            self._written()(instance, *given, **named)
            return
        put = object.__setattr__ if self.frozen else setattr
        for field in fields:
            if field.name in said:
                put(instance, field.name, said[field.name])
            elif field.default_factory is not MISSING:
                put(instance, field.name, field.default_factory())
            elif field.default is not MISSING:
                put(instance, field.name, field.default)
        if hasattr(self.cls, "__post_init__"):
            instance.__post_init__()


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _written_init(cls: type, frozen: bool) -> Any:
    """Compile the ``__init__`` that ``dataclasses`` gives such a class."""
    names: dict[str, Any] = {"_set_": object.__setattr__, "_unsaid_": UNSAID}
    types: dict[str, Any] = {}
    by_place, by_name, body = ["self"], ["*"], ["pass"]
    for field in dataclasses.fields(cls):
        name, value = field.name, field.name
        default = "=_unsaid_"
        if field.default_factory is not MISSING:
            names[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}()" + (
                f" if {name} is _unsaid_ else {name}" if field.init else ""
            )
        elif field.default is not MISSING:
            names[f"_default_{name}"] = field.default
            default = f"=_default_{name}"
            value = name if field.init else f"_default_{name}"
        elif field.init:
            default = ""
        else:
            continue  # __post_init__ sets it
        body.append(f"_set_(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if field.init:
            types[name] = field.type
            (by_name if field.kw_only else by_place).append(name + default)
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join(by_place + (by_name if len(by_name) > 1 else []))
    exec(f"def __init__({arguments}):\n " + "\n ".join(body), names)
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {**types, "return": None}
    return init


class _Unsaid:
    """Stands for a default that is made anew for every object."""

    def __repr__(self) -> str:
        return "<factory>"


UNSAID = _Unsaid()


def _shown(names: list[str]) -> Any:
    @recursive_repr()
    def __repr__(self: object) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({said})"

    return __repr__


def _values(names: list[str]) -> Callable[[object], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _compared(values: Callable[[object], tuple[Any, ...]]) -> Any:
    def __eq__(self: object, other: object) -> bool:
        return (
            values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented
        )

    return __eq__


def _hashed(values: Callable[[object], tuple[Any, ...]]) -> Any:
    def __hash__(self: object) -> int:
        return hash(values(self))

    return __hash__


def _locks(cls: type, names: frozenset[str]) -> dict[str, Any]:
    """Refuse to set and delete; what a plain subclass adds, it may set."""

    def __setattr__(self: object, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self: object, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
