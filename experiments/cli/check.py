"""``headroom check FILE.py``: whether schedulers, orders and routers of one's own keep the rules.

Runs every class of them that the module defines through ``sim.conformance``. Exit status 0: all
rules are kept; 1: one is broken, said with the case; 2: the module cannot be run.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from inspect import getmembers, isabstract, isclass
from types import ModuleType
from typing import Any

from experiments.cli.command import MixedParser, called, fail, run_command, whole_number


def main(argv: Sequence[str] | None = None) -> int:
    """Check the classes of a module, and return the exit status."""
    parser = MixedParser(prog=called("check"), description=__doc__, allow_abbrev=False)
    parser.add_argument("module", metavar="FILE.py|MODULE", help="where the classes are")
    parser.add_argument("names", nargs="*", metavar="CLASS", help="default: all that are there")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="a setting of the class's own; give its name as well",
    )  # fmt: skip
    parser.add_argument(
        "--cases", type=whole_number, default=60, metavar="N", help="random cases (default: 60)"
    )
    return run_command(_command, parser, argv, "nothing was left behind")


def _command(options: argparse.Namespace) -> int:
    from experiments.study.errors import StudyError
    from experiments.study.plugins import allowed, read_plugins

    try:
        plugins = read_plugins([options.module])
        with allowed(plugins):
            return _check(sys.modules[plugins[0].name], options)
    except StudyError as error:
        return fail(str(error))


def _check(module: ModuleType, options: argparse.Namespace) -> int:
    from experiments.study.errors import StudyError
    from experiments.study.overrides import parse_overrides
    from model.errors import one_of
    from sim.conformance import ConformanceError

    own = {".".join(map(str, each.path)): each.value for each in parse_overrides(options.settings)}
    found = _classes(module)
    if not found:
        raise StudyError.of(f"{options.module} defines no scheduler, order or router")
    for name in options.names:
        if name not in found:
            raise StudyError.of(f"{options.module} has no {name}: {one_of(name, tuple(found))}")
    broken = 0
    for name in options.names or found:
        kind, check, made = found[name]
        try:
            rules = check(made, own, options.cases)
            print(f"{name}: {kind} that keeps {len(rules)} rules: {', '.join(rules)}")
        except ConformanceError as error:
            broken += 1
            print(f"{name}: {kind} that breaks a rule: {error}")
    return int(broken > 0)


def _classes(module: ModuleType) -> dict[str, tuple[str, Callable[..., tuple[str, ...]], Any]]:
    """What the module defines itself: by name, what it is, its check, and the class."""
    from sim.conformance import check_order, check_router, check_scheduler
    from sim.engine.scheduler import Scheduler
    from sim.engine.waiting import WaitingQueue
    from sim.routers.router import Router

    kinds: tuple[tuple[str, type, Callable[..., tuple[str, ...]]], ...] = (
        ("a scheduler", Scheduler, check_scheduler),
        ("an order", WaitingQueue, check_order),
        ("a router", Router, check_router),
    )
    return {
        name: (kind, check, each)
        for name, each in getmembers(module, isclass)
        for kind, base, check in kinds
        if issubclass(each, base) and each.__module__ == module.__name__ and not isabstract(each)
    }
