"""Worker processes on this machine: how they start, and how they end when something goes wrong.

On Linux a worker is a copy of this process (fork), there at once with everything that is loaded.
Elsewhere, or beside other threads of Python, which a copy would not have, it is a new interpreter
(joblib's loky) and takes a second to load. What a task returns is the same.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import starmap
from multiprocessing import active_children, current_process, get_context
from typing import Any, TypeVar

from experiments.study.errors import RunError
from experiments.study.plugins import Plugin, allowed, given_plugins

T = TypeVar("T")
Tasks = Iterable[tuple[Any, ...]]


def copies_at_once() -> bool:
    """Whether workers are copies of this process, which cost nothing to start."""
    alone = threading.active_count() == 1 and not current_process().daemon
    return sys.platform == "linux" and alone


def in_parallel(
    function: Callable[..., T], tasks: Tasks, workers: int, begun: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Call ``function`` with each of ``tasks`` in other processes; yield results as they come.

    ``begun`` is called when the workers have been started. If a task fails, or the caller closes
    the generator, nobody waits for the other tasks: the workers are killed. A process that may not
    have any (a worker of ``multiprocessing.Pool``) does everything itself.

    Raises:
        RunError: a worker was killed.
    """
    if current_process().daemon:
        return _by_itself(function, tasks, begun)
    if copies_at_once():
        return _by_copies(function, tasks, workers, begun)
    return _by_interpreters(function, tasks, workers, begun)


def shared_by(workers: int) -> Callable[[Callable[..., T], Sequence[tuple[Any, ...]]], Iterable[T]]:
    """Return what calls a function with each of many arguments, and gives what comes back.

    Processes share the calls where those are there at once; else this one makes them all.
    """

    def call(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterable[T]:
        if min(workers, len(tasks)) > 1 and copies_at_once():
            return in_parallel(function, tasks, min(workers, len(tasks)))
        return starmap(function, tasks)

    return call


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended: for what must not be left half-done."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _by_itself(
    function: Callable[..., T], tasks: Tasks, begun: Callable[[], None]
) -> Generator[T, None, None]:
    begun()
    for task in tasks:
        yield function(*task)


def _by_copies(
    function: Callable[..., T], tasks: Tasks, workers: int, begun: Callable[[], None]
) -> Generator[T, None, None]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    others = set(active_children())
    try:
        pool = ProcessPoolExecutor(
            workers, get_context("fork"), initializer=_prepare, initargs=(os.getpid(),)
        )
    except (OSError, ImportError) as error:  # no /dev/shm, or no room in it
        raise _cannot_start(error) from None
    with pool:
        try:
            try:
                with interrupts_later():  # and in the workers never
                    ended = as_completed([pool.submit(function, *task) for task in tasks])
            except (OSError, RuntimeError) as error:  # a limit on processes, threads or memory
                if isinstance(error, BrokenProcessPool):
                    raise
                for process in (pool._processes or {}).values():
                    process.kill()
                raise _cannot_start(error) from None
            begun()
            for future in ended:
                yield future.result()
        except BrokenProcessPool:
            raise _killed(workers) from None
        except BaseException:
            for worker in set(active_children()) - others:
                worker.kill()
            raise


def _by_interpreters(
    function: Callable[..., T], tasks: Tasks, workers: int, begun: Callable[[], None]
) -> Generator[T, None, None]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    call, own = delayed(_in_interpreter), given_plugins()
    try:
        parallel = Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1)
        results = parallel(call(function, task, os.getpid(), own) for task in tasks)
        begun()
        yield from results
    except BrokenProcessPool:
        raise _killed(workers) from None
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


def _cannot_start(error: Exception) -> RunError:
    what = getattr(error, "strerror", None) or str(error)
    return RunError(f"worker processes cannot be started: {what}; --jobs 1 does without any")


def _killed(workers: int) -> RunError:
    return RunError(
        f"a worker process was killed, perhaps for want of memory with {workers} at a time"
    )


def _in_interpreter(
    function: Callable[..., T], task: tuple[Any, ...], parent: int, own: tuple[Plugin, ...]
) -> T:
    if os.getpid() != parent:  # joblib does without workers where it cannot have any
        _prepare(parent)
    with allowed(own):
        return function(*task)


@cache
def _prepare(parent: int) -> None:
    """Make a worker that ends with its parent."""
    # Ctrl-C reaches the whole process group; the parent alone answers it. What the parent does on
    # other signals is not for its copies to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:  # when the parent is killed, nobody else would end its workers
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
