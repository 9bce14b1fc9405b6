"""Files in results folders that are ours by what is written in them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.running.folder import Place, Wanted, results_folder, signed_file
from experiments.running.publish import claimed, publish
from experiments.running.record import MANIFESTS, unchanged
from experiments.running.work_folder import WORK
from experiments.study.errors import RunError, StudyError
from tests.experiments.folders import NAMES, WANTED, tree


def test_a_signed_file_is_ours_until_it_is_changed(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    wanted = Wanted(frozenset(("mine.yaml", "mine.png")), "mine", None, overwrite=True)

    def write(text: str) -> Place:
        with claimed(signed_file(out), wanted) as work:
            (work.new / "mine.yaml").write_text(text)
            (work.new / "mine.png").write_text(text)
            publish(work, {})
        return work.place

    (tmp_path / "letter.txt").write_text("precious")
    place = write("a: 1\n")
    record = place.recorded()
    assert record is not None
    assert unchanged(tmp_path, record).keys() == {"mine.yaml", "mine.png"}
    write("a: 2\n")
    assert out.read_text().startswith("a: 2\n# headroom wrote")
    assert (tmp_path / "mine.png").read_text() == "a: 2\n"
    out.write_text(out.read_text().replace("a: 2", "a: 3"))
    before = tree(tmp_path)
    with pytest.raises(StudyError, match=r"holds mine.png, mine.yaml, not from headroom"):
        write("a: 4\n")
    assert tree(tmp_path) == before
    assert sorted(before) == ["letter.txt", "mine.png", "mine.yaml"]


POOL = (*NAMES, "manifest.json", "SUMMARY.csv", "notes.md", "sub/x", f"{WORK}/x", f"{WORK}/new/y")
FILES_OF_A_USER = st.dictionaries(st.sampled_from(POOL), st.text("abc\n", max_size=5), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    before=FILES_OF_A_USER, between=FILES_OF_A_USER, during=FILES_OF_A_USER, overwrite=st.booleans()
)
def test_no_file_of_a_user_is_ever_lost(
    before: dict[str, str],
    between: dict[str, str],
    during: dict[str, str],
    overwrite: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = tmp_path_factory.mktemp("user") / "out"
    users: dict[str, str] = {}

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
            users[name] = text

    for turn, (first, then) in enumerate(((before, {}), (between, during))):
        write(first)
        wanted = Wanted(WANTED.names, "mine", f"settings {turn}", overwrite)
        try:
            with claimed(results_folder(out), wanted) as work:
                for name in NAMES:
                    (work.new / name).write_text(f"{turn}: {name}")
                write(then)
                publish(work, {})
        except (StudyError, RunError):
            continue
        record = results_folder(out).recorded()
        assert record is not None
        assert unchanged(out, record) == record.files
    for name, text in users.items():
        assert (out / name).read_text() == text
    assert MANIFESTS.read(out / "nothing") is None
