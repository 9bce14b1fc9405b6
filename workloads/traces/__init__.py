"""Recorded requests: what files of many kinds say about who asked for what, when.

A file is told by its bytes: what it is packed in (``containers``), its shape (``csv_files``,
``json_files``, ``arrow_files``), and by its names its format (``formats``). A format is a row of
the registry, in the file of its family: ``tables``, ``clouds``, ``agents``, ``simulators``,
``clients``, ``logs``. Which requests wait for which is in ``links``.

What reads files is loaded when the first is read: a workload that is drawn needs none of it.
"""

from typing import TYPE_CHECKING, Any

from workloads.traces.errors import TraceError

if TYPE_CHECKING:
    from workloads.traces.replay import (
        read_length_column,
        read_lengths,
        read_linked,
        read_trace,
        told_of_lengths,
    )

__all__ = [
    "TraceError",
    "read_length_column",
    "read_lengths",
    "read_linked",
    "read_trace",
    "told_of_lengths",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workloads.traces import replay

    return getattr(replay, name)
