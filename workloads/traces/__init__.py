"""Recorded requests: what files of many kinds say about who asked for what, when.

A file is told by its bytes: what it is packed in (``containers``), its shape (``csv_files``,
``json_files``, ``arrow_files``), and by its names its format (``formats``). A format is a row of
the registry, in the file of its family: ``tables``, ``clouds``, ``agents``, ``simulators``,
``clients``, ``logs``. Which requests wait for which is in ``links``.
"""

from workloads.traces.errors import TraceError
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
