"""``headroom explore STUDY``: a live page on this machine with the knobs of one of its points.

It listens on 127.0.0.1 alone; look at it from elsewhere through ``ssh -L``. Ctrl-C ends it.
"""

import argparse
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import Parser, between, called, fail, processes, run_command
from experiments.cli.executors import add_plugins

MISSING = "headroom explore needs starlette and uvicorn: pip install -e '.[explore]' in a checkout"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until somebody ends it."""
    return run_command(_command, _parser(), argv, "the page is gone")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=called("explore"), description=__doc__, allow_abbrev=False)
    parser.add_argument("study", metavar="STUDY", help="a YAML file, or a bundled study")
    parser.add_argument(
        "--point", type=between(1, 100_000), default=1, metavar="N",
        help="the point to start from, as --dry-run numbers them (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="set a dotted key to a YAML value",
    )  # fmt: skip
    add_plugins(parser)
    parser.add_argument("--jobs", type=processes, default=2, metavar="N", help="processes (2)")
    parser.add_argument(
        "--port", type=between(0, 65_535), default=0, help="of 127.0.0.1 (default: a free one)"
    )
    return parser


def _command(options: argparse.Namespace) -> int:
    from experiments.study.errors import StudyError
    from experiments.study.plugins import allowed, read_plugins

    try:
        with allowed(read_plugins(options.plugins)):
            return _explored(options)
    except StudyError as error:
        return fail(str(error))


def _explored(options: argparse.Namespace) -> int:
    """Serve the page. Raises StudyError: something is wrong with the study."""
    from experiments.study.document import read_raw
    from experiments.study.kinds import kind_of
    from experiments.study.overrides import parse_overrides

    try:
        from experiments.exploring import nursery

        loaded = read_raw(options.study, parse_overrides(options.settings))
        if kind_of(loaded) != "serving":
            return fail(f"study {options.study} is of kind {kind_of(loaded)}, expected serving")
        nursery.context()  # it loads what workers need beside this process
        from experiments.exploring.connections import Server
        from experiments.exploring.server import Explorer, application
    except ImportError:
        return fail(MISSING)
    from experiments.exploring.knobs import knobs_of
    from experiments.exploring.points import base_of
    from experiments.exploring.workers import Workers

    try:
        base = base_of(loaded, options.point)
        base.plan({}, 1)  # whatever is wrong with the study is said here
    except ValueError as error:
        return fail(str(error))
    token = secrets.token_urlsafe(24)
    with (
        tempfile.TemporaryDirectory(prefix="headroom-explore-") as folder,
        socket.socket() as listening,
    ):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", options.port))
        except OSError as error:
            return fail(f"--port {options.port}: {error.strerror}")
        listening.listen()  # who comes before the server runs waits for it
        port = listening.getsockname()[1]
        workers = Workers(options.jobs, Path(folder))
        try:
            explorer = Explorer(base, knobs_of(base.study()), workers)
            print(f"open http://127.0.0.1:{port}/?token={token}", flush=True)
            print("Ctrl-C ends it", file=sys.stderr)
            signal.signal(signal.SIGTERM, _ended)  # uvicorn sends it again once it has stopped
            Server(workers, application(explorer, token, port)).run(sockets=[listening])
        finally:
            workers.close()
    return 0


def _ended(number: int, _: object) -> None:
    """Leave as after any other end: folder and workers go."""
    sys.exit(128 + number)
