"""Studies: a base scenario, a sweep, many seeds; tables, drawings and a report.

``run_study(load_study("batching_sweep"))`` returns DataFrames. Imports happen when used, so that
``python -m experiments.run --help`` answers at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.running.api import StudyResult, load_study, run_study

    __version__: str

__all__ = ["StudyResult", "__version__", "load_study", "run_study"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from experiments.running.versions import headroom_version

        return headroom_version()
    if name in __all__:
        from experiments.running import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
