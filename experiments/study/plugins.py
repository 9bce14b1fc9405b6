"""``--plugin``: modules whose classes a study may name, read, digested and run.

Nothing of a module runs unless the command line (or the caller, from Python) names it. Its digest
is that of the very bytes that are run, and is part of what results depend on. What a module imports
in turn is not in its digest, unless that is named as well, before it.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from traceback import walk_tb
from types import ModuleType

from experiments.study.errors import RunError, StudyError, show
from model.dataclass import dataclass
from sim import plugins
from sim.plugins import OPTION

MOST_BYTES = 2**24
"""Of the source of one module."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A module that may be named; one from a file carries its source, also to other machines."""

    name: str
    """As a study calls it: ``name:Class``."""
    sha256: str
    """Of its source; of all sources of a package."""
    path: str
    source: bytes | None = field(default=None, repr=False)
    """None: it is imported by its name."""


_given: ContextVar[tuple[Plugin, ...]] = ContextVar("_given", default=())
_loaded: dict[tuple[Plugin, ...], ModuleType] = {}  # the last one, behind those before it
_loading = RLock()


def read_plugins(given: Iterable[str | Path]) -> tuple[Plugin, ...]:
    """Find what was asked for: files (``my_module.py``), or modules that can be imported.

    Raises:
        StudyError: no such file or module, or a name that something else has.
    """
    found = [_of_file(Path(each)) if _is_file(each) else _of_module(str(each)) for each in given]
    names = [each.name for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None and len({each.path for each in found if each.name == twice}) > 1:
        raise StudyError.of(f"two modules are called {twice}, expected different names", OPTION)
    return tuple(dict.fromkeys(found))


@contextmanager
def allowed(given: Sequence[Plugin]) -> Iterator[None]:
    """Run these modules, and let their classes be named within the block.

    Raises:
        StudyError: one of them cannot be run; the message says where in it.
        RunError: a module is another one here than where the study was started.
    """
    modules = {each.name: _module(tuple(given[: at + 1])) for at, each in enumerate(given)}
    before = _given.set(tuple(given))
    try:
        with plugins.allowed(modules):
            yield
    finally:
        _given.reset(before)


def given_plugins() -> tuple[Plugin, ...]:
    """Return the modules that are allowed now."""
    return _given.get()


def plugin_facts() -> dict[str, dict[str, str]]:
    """Return what a manifest says of the modules that are allowed now, by their names."""
    return {each.name: {"path": each.path, "sha256": each.sha256} for each in given_plugins()}


def blamed(error: BaseException) -> str:
    """Say what went wrong, and where in a module of one's own, if it was in one."""
    files = [each.path for each in given_plugins()]
    lines = [
        f"{Path(frame.f_code.co_filename).name}, line {line}, in {frame.f_code.co_name}: "
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_code.co_filename in files
    ]
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return f"{lines[-1] if lines else ''}{text}"


def _is_file(given: str | Path) -> bool:
    return isinstance(given, Path) or given.endswith(".py") or "/" in given


def _of_file(path: Path) -> Plugin:
    where, name = f"{OPTION} {path}", path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise StudyError.of("expected a Python file with a name like my_module.py", where)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StudyError.of(f"expected at most {MOST_BYTES:,} bytes", where)
        source = path.read_bytes()
    except OSError as error:
        raise StudyError.of(f"cannot be read: {error.strerror}", where) from None
    if _taken(name, path):
        raise StudyError.of(f"a module {name} is there already, expected another name", where)
    return Plugin(name, hashlib.sha256(source).hexdigest(), str(path.resolve()), source)


def _taken(name: str, path: Path) -> bool:
    """Whether somebody else has the name of a file's module; a folder without code has not."""
    if name in sys.stdlib_module_names:
        return True
    present = sys.modules.get(name)
    if present is not None:
        file = getattr(present, "__file__", None)
        return present not in _loaded.values() and not _is_same(path, file)
    spec = find_spec(name)
    return spec is not None and spec.origin is not None and not _is_same(path, spec.origin)


def _is_same(path: Path, other: str | None) -> bool:
    return other is not None and Path(other).is_file() and path.samefile(other)


def _of_module(name: str) -> Plugin:
    where = f"{OPTION} {show(name)}"
    if Path(name).is_file() or not all(part.isidentifier() for part in name.split(".")):
        raise StudyError.of("expected a file such as my_module.py, or a module's name", where)
    try:
        spec = find_spec(name)
    except (ImportError, ValueError) as error:
        raise StudyError.of(f"cannot be imported: {error}", where) from None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise StudyError.of("no such module, and it is no file that ends in .py", where)
    origin = Path(spec.origin)
    files = [origin]
    if spec.submodule_search_locations:
        files = sorted(origin.parent.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(origin.parent).as_posix().encode())
        digest.update(file.read_bytes())
    return Plugin(name, digest.hexdigest(), str(origin))


def _module(given: tuple[Plugin, ...]) -> ModuleType:
    """Run the last of some modules, once in a process for each content of all of them."""
    with _loading:
        if given not in _loaded:
            _loaded[given] = _run(given[-1])
        elif given[-1].source is not None:
            sys.modules[given[-1].name] = _loaded[given]
        return _loaded[given]


def _run(plugin: Plugin) -> ModuleType:
    if plugin.source is None:
        if _of_module(plugin.name).sha256 != plugin.sha256:
            raise RunError(f"the module {plugin.name} is another one here than at the start")
        with _told(plugin):
            return import_module(plugin.name)
    module = ModuleType(plugin.name)
    module.__file__ = plugin.path
    before = sys.modules.get(plugin.name)
    sys.modules[plugin.name] = module
    try:
        with _told(plugin):
            exec(compile(plugin.source, plugin.path, "exec"), module.__dict__)
    except StudyError:
        del sys.modules[plugin.name]
        if before is not None:
            sys.modules[plugin.name] = before
        raise
    return module


@contextmanager
def _told(plugin: Plugin) -> Iterator[None]:
    """Say in one line why a module does not run."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [
            line
            for frame, line in walk_tb(error.__traceback__)
            if frame.f_code.co_filename == plugin.path
        ]
        if isinstance(error, SyntaxError) and error.lineno is not None:
            lines = [error.lineno]
        where = f"line {lines[-1]}: " if lines else ""
        what = error.msg if isinstance(error, SyntaxError) else error
        text = f"{where}{type(error).__name__}: {what}"
        raise StudyError.of(text, f"{OPTION} {plugin.path}") from error
