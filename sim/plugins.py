"""Classes of one's own in place of those that are built in: ``MODULE:CLASS``.

A study only names them. They run where somebody has allowed their module by name; a study by a
stranger runs nothing of the stranger's.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import getmembers, isclass, signature
from types import MappingProxyType, ModuleType
from typing import Any, Final, TypeVar

from model.errors import one_of
from model.nearest import closest

T = TypeVar("T")
Own = Mapping[str, bool | int | float | str]
"""Settings of a class of one's own: keywords of its constructor."""

NONE: Final[Own] = MappingProxyType({})
"""No settings."""
DOTTED: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
"""``MODULE:CLASS``, as a pattern."""
OPTION: Final = "--plugin"
"""What allows a module."""

_allowed: ContextVar[Mapping[str, ModuleType]] = ContextVar(
    "_allowed", default=MappingProxyType({})
)


@contextmanager
def allowed(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Let classes of these modules be named, within the block and what it calls."""
    before = _allowed.set(modules)
    try:
        yield
    finally:
        _allowed.reset(before)


def is_own(name: object) -> bool:
    """Tell whether a name is the dotted path of a class."""
    return isinstance(name, str) and re.match(DOTTED, name) is not None


def class_of(name: str, rows: Mapping[str, type[T]], base: type[T]) -> type[T]:
    """Return the class of a name: a row of a table, or one that is allowed, by its dotted path.

    Raises:
        ValueError: neither; the module is not allowed; it has no such class, or the class is none
            of ``base``.
    """
    if name in rows:
        return rows[name]
    if not is_own(name):
        raise ValueError(f"{one_of(name, tuple(rows))}, or a class of yours as MODULE:CLASS")
    where, _, what = name.partition(":")
    module = _allowed.get().get(where)
    if module is None:
        raise ValueError(
            f"the code of {where} runs only if the command line allows it: {OPTION} {where}.py, or "
            f"{OPTION} {where} if it can be imported"
        )
    found = getattr(module, what, None)
    if found is None:
        fitting = [own for own, each in getmembers(module, isclass) if issubclass(each, base)]
        near = closest(what, fitting)
        hint = f"; did you mean {where}:{near}?" if near else ""
        raise ValueError(f"{where} has no {what}{hint}")
    if not (isclass(found) and issubclass(found, base)) or found is base:
        raise ValueError(f"expected a subclass of {base.__module__}.{base.__qualname__}")
    return found


def built(made: Callable[..., T], own: Own, *parts: object) -> T:
    """Return an instance: of its parts, and of settings of its own."""
    return made(*parts, **own)


def check_own(name: object, own: Own, found: Callable[..., Any], parts: int) -> Own:
    """Check that a class takes these settings, by its signature; return them.

    Args:
        name: what the study calls it.
        own: what the study gives it.
        found: the class.
        parts: how many positional arguments it is given beside.

    Raises:
        ValueError: settings for a class that is built in, an unknown one, or one that is missing.
    """
    if not is_own(name):
        if own:
            raise ValueError("expected none: they are for a class of yours, named MODULE:CLASS")
        return own
    told = list(signature(found).parameters.values())[parts:]
    known = [each.name for each in told if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in told)
    for key in own:
        if key not in known and not takes_any:
            expected = one_of(key, known) if known else f"{name} takes none"
            raise ValueError(f"unknown key {key}: {expected}")
    required = {each.name for each in told if each.default is each.empty}
    missing = [key for key in known if key in required and key not in own]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}")
    return own


def try_out(made: Callable[..., object], own: Own, *parts: object) -> None:
    """Make an instance, to see whether its constructor takes these settings.

    Raises:
        ValueError: it does not; the message is its own.
    """
    try:
        made(*parts, **own)
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{kind}{error}") from error
