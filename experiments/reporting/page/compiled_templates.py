"""Byte code of templates, kept beside them as Python keeps that of modules: compiling takes longer
than everything else that is done for a page."""

import os
import pickle
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from jinja2 import FileSystemBytecodeCache
from jinja2.bccache import Bucket


class _Cache(FileSystemBytecodeCache):
    """A file holds the digest of its template; one that cannot be used is as good as none."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError, EOFError, ValueError, pickle.UnpicklingError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().dump_bytecode(bucket)


def cache_of(templates: Path) -> FileSystemBytecodeCache | None:
    """Return what keeps byte code of the templates in a folder; None where it may not be kept."""
    if sys.dont_write_bytecode or not os.access(templates, os.W_OK):
        return None
    folder = templates / "__pycache__"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    version = f"{sys.implementation.cache_tag}-{metadata.version('jinja2')}"
    return _Cache(str(folder), f"%s.{version}.jinja")
