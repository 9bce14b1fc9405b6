"""The studies that come with headroom, and how a study is found."""

from pathlib import Path

from experiments.study.errors import StudyError, show
from model.errors import one_of
from model.nearest import closest

STUDIES = Path(__file__).parents[1] / "studies"
"""Where the bundled studies live."""


def bundled_studies() -> dict[str, Path]:
    """Return the path of every bundled study by name."""
    return {path.stem: path for path in sorted(STUDIES.glob("*.yaml"))}


def find_study(name_or_path: str | Path) -> Path:
    """Return the file of a study given by path or by bundled name.

    Raises:
        StudyError: neither; the message names the nearest bundled study.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    bundled = bundled_studies()
    if str(name_or_path).removesuffix(".yaml") in bundled:
        return bundled[str(name_or_path).removesuffix(".yaml")]
    what = "is a folder, expected a file" if path.is_dir() else "does not exist"
    if not path.is_dir() and path.exists():
        what = "is no regular file"
    if str(name_or_path) == "-":
        raise StudyError.of("study -: expected a file; what comes through a pipe is /dev/stdin")
    beside = closest(path.name, (each.name for each in path.absolute().parent.glob("*.yaml")))
    if beside and not path.exists() and path.suffix:
        what += f" (there is {beside})"
    raise StudyError.of(
        f"study {show(name_or_path)} {what}, and no bundled study has this name; "
        f"{one_of(path.stem, tuple(bundled))}"
    )
