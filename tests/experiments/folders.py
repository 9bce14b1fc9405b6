"""Results that are put into folders, and what stands in them then."""

import os
from pathlib import Path

from experiments.running.folder import Wanted, results_folder
from experiments.running.publish import claimed, publish
from experiments.running.record import unchanged

NAMES = ("study.yaml", "summary.csv", "latency.png")
WANTED = Wanted(frozenset((*NAMES, "manifest.json")), "mine", "settings 1")


def put(folder: Path, text: str, wanted: Wanted = WANTED, names: tuple[str, ...] = NAMES) -> None:
    """Publish files of a text."""
    with claimed(results_folder(folder), wanted) as work:
        for name in names:
            (work.new / name).write_text(f"{text}: {name}")
        publish(work, {"seeds": [1]})


def tree(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with what is in it."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


def holds(folder: Path, text: str) -> bool:
    """Whether exactly the results of a text are there, as their manifest lists them."""
    record = results_folder(folder).recorded()
    found = {name: content for name, content in tree(folder).items() if name != "manifest.json"}
    return (
        record is not None
        and unchanged(folder, record).keys() == {*NAMES, "manifest.json"}
        and found == {name: f"{text}: {name}" for name in NAMES}
    )
