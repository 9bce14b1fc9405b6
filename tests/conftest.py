"""How hard the suite tries: the same wild inputs each time, or two thousand new ones of each kind.

``--hypothesis-profile=thorough`` looks for what the usual inputs do not find. None has a deadline:
how long a try takes is up to whoever else computes on the machine.

Threads of BLAS and torch are one in each process, before either is loaded: several tests run at a
time, and threads that wait for each other on a full machine take ten times as long.

Who starts the suite in the background of a shell has it ignore Ctrl-C, and with it every process
that a test starts and interrupts.

What is collected stays: Python's collector of cycles, which would walk over all of it again and
again, begins behind it.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("thorough", max_examples=2000, derandomize=False, deadline=None)
settings.register_profile("repeated", derandomize=True, database=None, deadline=None)
settings.load_profile("repeated")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
