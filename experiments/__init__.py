"""Studies: a base scenario, a sweep, many seeds; tables, drawings and a report.

``run_study(load_study("batching_sweep"))`` returns DataFrames, ``run_search("chat_users")`` the
answer of a plan or a capacity study. Imports happen when used, so that
``python -m experiments.run --help`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.planning.api import SearchResult, run_search
    from experiments.running.api import StudyResult, load_study, run_study

    __version__: str

__all__ = [
    "SearchResult", "StudyResult", "__version__", "load_study", "run_search", "run_study",
]  # fmt: skip
SEARCHED = ("SearchResult", "run_search")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from experiments.running.versions import VERSION

        return VERSION
    if name in __all__:
        room = "planning" if name in SEARCHED else "running"
        return getattr(import_module(f"experiments.{room}.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
