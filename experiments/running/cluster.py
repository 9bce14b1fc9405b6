"""Runs on many machines: workers of a dask.distributed cluster simulate, this process keeps.

Nothing but the network is shared. A worker gets a run and gives back its piece, so it needs the
same headroom and the files that the study names, at the same paths, but no results folder. Files of
``--plugin`` are sent along; modules have to be installed there. It works out the identity of the
run for itself, and refuses when it comes to another one than the sender: the tables are those of a
local sweep, or there are none.

What a worker had begun when it was lost, another one does again.
"""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from experiments.running.identity import run_identity
from experiments.running.pieces import put, simulate_to
from experiments.running.sweep import Begun, Done, Run, named_errors
from experiments.study.errors import RunError, StudyError
from experiments.study.plugins import Plugin, allowed, given_plugins
from model.dataclass import dataclass

if TYPE_CHECKING:
    from distributed import Client, Future

OPTION = "--scheduler-address"
CONNECT_S = 10.0
"""How long a scheduler may take to answer."""
WITHOUT_WORKERS_S = 60.0
"""How long a cluster may have no worker at all before the sweep gives up."""
LOOK_S = 0.02
"""Between two looks for runs that have ended."""
ASK_S = 1.0
"""Between two questions to the scheduler whether there are workers."""


@contextmanager
def connected(address: str) -> Iterator["Cluster"]:
    """Give the cluster whose scheduler listens at ``address``, ``HOST:PORT``.

    Raises:
        StudyError: no such address, nobody answers, or the package is missing.
    """
    if not re.fullmatch(r"(tcp://)?(\[[\da-fA-F:]+\]|[^\s/:\[\]]+):\d{1,5}", address):
        raise StudyError.of(f"{OPTION} {address}: expected HOST:PORT, as dask scheduler prints it")
    try:
        from distributed import Client
    except ImportError:
        raise StudyError.of(
            "--executor dask needs the package distributed: pip install '.[dask]' in the checkout "
            "of headroom"
        ) from None
    for name in ("distributed", "distributed.client"):  # errors are told once, by us
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError):
        raise StudyError.of(
            f"{OPTION} {address}: no scheduler answers within {CONNECT_S:g} s; "
            "start one with: dask scheduler"
        ) from None
    try:
        yield Cluster(client, address)
    finally:
        client.close(timeout=1.0)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answers."""

    client: "Client"
    address: str
    jobs: int = 1
    """This machine simulates nothing, and draws one figure after the other."""

    def facts(self) -> dict[str, Any]:
        """What the manifest tells of how a study was run."""
        return {"executor": "dask"}

    def run(self, runs: list[Run], done: Done, begun: Begun) -> None:
        """Simulate ``runs`` on the workers, as many at a time as these have threads.

        Raises:
            StudyError: a run refused its input; the message names the point.
            RunError: the cluster is gone or without workers, a worker has other code or cannot
                read a file, or a run was lost with every worker that tried it.
        """
        from distributed import as_completed

        futures: dict[Future, Run] = {}
        own = given_plugins()
        try:
            for run in runs:
                identity = run_identity(run.study, run.seed, run.draw)
                futures[self.client.submit(_simulate, run, identity, own, pure=False)] = run
            begun()
            ended = as_completed(list(futures), loop=self.client.loop)
            alive_s = asked_s = time.monotonic()
            while futures:
                for future in ended.next_batch(block=False):
                    run = futures.pop(future)
                    put(run.path, self._outcome(future, run))
                    future.release()
                    done(run)
                time.sleep(LOOK_S)
                now_s = time.monotonic()
                if now_s - asked_s > ASK_S:
                    asked_s = now_s
                    alive_s = now_s if self._has_workers() else alive_s
                    self._check_alive(now_s - alive_s)
        finally:
            if futures and self.client.status == "running":
                self.client.cancel(list(futures), force=True)

    def _has_workers(self) -> bool:
        try:
            return self.client.status == "running" and bool(self.client.nthreads())
        except (OSError, ValueError):
            return False

    def _check_alive(self, silent_s: float) -> None:
        if self.client.status != "running" and silent_s > CONNECT_S:
            raise RunError(f"the scheduler at {self.address} is gone")
        if silent_s > WITHOUT_WORKERS_S:
            raise RunError(
                f"the cluster at {self.address} has had no worker for {silent_s:.0f} s; start "
                f"some with: dask worker {self.address}"
            )

    def _outcome(self, future: "Future", run: Run) -> bytes:
        """Return the piece of a run that has ended, or raise what went wrong there."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            piece: bytes = future.result()
            return piece
        except KilledWorker:
            raise RunError(
                f"{run.label}: lost with every worker that tried it, perhaps for want of memory"
            ) from None
        except CancelledError:
            gone = self.client.status != "running"
            raise RunError(
                f"the scheduler at {self.address} is gone" if gone else f"{run.label}: cancelled"
            ) from None
        except RuntimeError as error:
            if isinstance(error.__cause__, ImportError):
                raise RunError(
                    f"the cluster at {self.address} cannot import {error.__cause__.name}, expected "
                    "this headroom to be installed where its scheduler and workers run"
                ) from None
            raise


def _simulate(run: Run, identity: dict[str, str], plugins: tuple[Plugin, ...]) -> bytes:
    """On a worker: simulate a run and return its piece."""
    with allowed(plugins), named_errors(run), TemporaryDirectory(prefix="headroom-") as folder:
        try:
            own = run_identity(run.study, run.seed, run.draw)
            other = [name for name, digest in identity.items() if own[name] != digest]
            if other:
                raise RunError(
                    f"{run.label}: a worker has other {', '.join(other)} than this machine, "
                    "expected the same headroom, libraries and files on both"
                )
            piece = Path(folder) / run.path.name
            simulate_to(piece, run.study, run.seed, run.draw, run.columns)
            return piece.read_bytes()
        except OSError as error:
            raise RunError(f"{run.label}: on a worker: {error}") from None
