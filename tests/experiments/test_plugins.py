"""Classes of one's own: allowed by name alone, run everywhere alike, part of what results are."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from study_files import (
    ROOT,
    SMALL,
    headroom,
    refused,
    run_cli,
    start_cli,
    tables_of,
    write_study,
)  # fmt: skip

from experiments import load_study, run_study
from experiments.running import workers
from experiments.study.errors import StudyError
from experiments.study.plugins import allowed, read_plugins
from sim.engine.sequence import Sequence
from sim.engine.waiting import Ranked

MODULE = """\
from pathlib import Path

from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.waiting import Ranked


class Reversed(ChunkedPrefill):
    def __init__(self, pool, waiting, settings, *, most, share: float = 1.0):
        super().__init__(pool, waiting, settings)
        if not 0 < share <= 1:
            raise ValueError(f"share = {share}, expected above 0, at most 1")
        self.most = most

    def form(self, now_s):
        self.prefilling.reverse()
        return super().form(now_s)


class LongestPrompt(Ranked):
    def rank(self, sequence):
        return -sequence.prompt_tokens


class Fails(ChunkedPrefill):
    def form(self, now_s):
        return self.batch.nothing


class Stuck(ChunkedPrefill):
    def form(self, now_s):
        return None


NEITHER = 3
"""
FAILS = 1 + MODULE.splitlines().index("        return self.batch.nothing")
BUSY = SMALL.replace("rate_per_s: 20", "rate_per_s: 2000").replace(
    "  max_num_seqs: 8\n", "  max_num_seqs: 8\n  max_num_batched_tokens: 32\n"
)
OWN = BUSY.replace(
    "  max_num_seqs: 8\n",
    "  max_num_seqs: 8\n  scheduler: own:Reversed\n"
    "  scheduler_settings: {most: 3}\n  order: own:LongestPrompt\n",
)


def folder_with(tmp_path: Path, study: str = OWN, module: str = MODULE) -> tuple[Path, Path]:
    """A study, and a module beside it."""
    (tmp_path / "own.py").write_text(module, encoding="utf-8")
    return write_study(tmp_path, study), tmp_path / "own.py"


def test_a_study_that_names_code_runs_nothing_of_it_unless_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "it_ran"
    study, _ = folder_with(tmp_path, module=f"open({str(told)!r}, 'w').close()\n{MODULE}")
    message = refused(capsys, tmp_path, study, "--out", tmp_path / "out")
    assert "engine.scheduler = own:Reversed: " in message
    assert f"--plugin {tmp_path / 'own.py'}" in message
    assert message.count("\n") == 1
    with pytest.raises(StudyError, match="--plugin"):
        load_study(study)
    swept = SMALL.replace("engine.max_num_seqs: [1, 4]", "engine.order: [fcfs, own:LongestPrompt]")
    message = refused(capsys, tmp_path, write_study(tmp_path, swept), "--out", tmp_path / "out")
    assert "sweep.engine.order = own:LongestPrompt: code of own runs only" in message
    assert not told.exists()


def test_it_runs_as_a_process_with_any_number_of_workers_and_says_what_ran(tmp_path: Path) -> None:
    study, module = folder_with(tmp_path)
    for jobs in (1, 2):
        process = start_cli(
            study, "--plugin", "own.py", "--jobs", jobs, "--out", f"out{jobs}", "--no-figures",
            cwd=tmp_path,
        )  # fmt: skip
        _, told = process.communicate()
        assert process.returncode == 0, told
        assert "own:Reversed is not headroom's: its code has SHA-256" in told
    assert tables_of(tmp_path / "out1") == tables_of(tmp_path / "out2")
    manifest = json.loads((tmp_path / "out1/manifest.json").read_text())
    digest = subprocess.run(["sha256sum", module], capture_output=True, text=True, check=True)
    assert manifest["plugins"]["own"]["sha256"] == digest.stdout.split()[0]
    plain = run_study(write_study(tmp_path, BUSY, "plain.yaml"))
    mine = run_study(study, plugins=[module])
    assert not plain.requests["finish_s"].equals(mine.requests["finish_s"]), "it changes something"


def test_interpreters_that_are_started_anew_run_it_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, module = folder_with(tmp_path)
    run_study(study, plugins=[module], out=tmp_path / "one")
    monkeypatch.setattr(workers, "copies_at_once", lambda: False)
    run_study(study, plugins=[module], out=tmp_path / "other", jobs=2)
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "other")


def test_a_changed_module_gives_other_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, module = folder_with(tmp_path)
    command = (study, "--plugin", module, "--out", tmp_path / "out", "--no-figures")
    assert run_cli(*command) == 0
    assert run_cli(*command) == 0, "the same again"
    module.write_text(MODULE.replace("-sequence.prompt_tokens", "sequence.prompt_tokens"))
    capsys.readouterr()
    before = tables_of(tmp_path / "out")
    assert run_cli(*command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_cli(*command, "--overwrite") == 0
    assert tables_of(tmp_path / "out")["requests.parquet"] != before["requests.parquet"]


@pytest.mark.parametrize(
    ("change", "words"),
    {
        "a class that is not there": (("own:Reversed", "own:Reverse"), "did you mean own:Reversed"),
        "none of a scheduler": (("own:Reversed", "own:LongestPrompt"), "expected a subclass of"),
        "no class": (("own:Reversed", "own:NEITHER"), "expected a subclass of"),
        "a setting that it has not": (("most: 3", "mosst: 3"), "mosst: did you mean most?"),
        "a setting that it needs": (("{most: 3}", "{}"), "own:Reversed needs most"),
        "a setting of another kind": (("most: 3", "most: [3]"), "scheduler_settings.most"),
        "settings of one that is built in": (("own:Reversed", "static"), "expected none"),
        "what its constructor refuses": (("most: 3", "most: 3, share: 2"), "share = 2, expected"),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_class_that_does_not_fit_is_one_clear_error(
    change: str, words: tuple[tuple[str, str], str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (old, new), expected = words
    study, module = folder_with(tmp_path, OWN.replace(old, new))
    message = refused(
        capsys, tmp_path, study, "--plugin", module, "--out", tmp_path / "out", "--dry-run"
    )
    assert expected in message
    assert "engine.scheduler" in message


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("own.py", "x = 1\ny = nothing\n", "line 2: NameError: name 'nothing'"),
        ("own.py", "x = 1\ndef (:\n", "line 2: SyntaxError: "),
        ("own.py", "raise SystemExit(0)\n", "line 1: SystemExit"),
        ("my-own.py", "", "a name like my_module.py"),
        ("json.py", "", "a module json is there already"),
        ("experiments.py", "", "a module experiments is there already"),
    ],
)
def test_a_module_that_cannot_run_is_one_clear_error(
    name: str, source: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(source, encoding="utf-8")
    study = write_study(tmp_path)
    message = refused(capsys, tmp_path, study, "--plugin", tmp_path / name, "--out", tmp_path / "o")
    assert "--plugin" in message
    assert words in message


def test_a_folder_of_its_name_is_in_nobody_s_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, for example, where Python looks for modules."""
    study, module = folder_with(tmp_path)
    (tmp_path / "beside/own").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "beside"))
    assert run_cli(study, "--plugin", module, "--out", tmp_path / "out", "--dry-run") == 0


def test_a_module_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(tmp_path)
    for given, words in (("nowhere.py", "cannot be read"), ("nowhere", "no such module")):
        assert words in refused(capsys, tmp_path, study, "--plugin", given, "--out", tmp_path / "o")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fails", f"own.py, line {FAILS}, in form: AttributeError: "),
        ("Stuck", "a scheduler is stuck"),
    ],
)
def test_a_class_that_fails_in_a_run_is_one_error_that_says_where(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = OWN.replace("own:Reversed", f"own:{name}").replace("{most: 3}", "{}")
    study, module = folder_with(tmp_path, text)
    for jobs in (1, 2):
        assert run_cli(study, "--plugin", module, "--out", tmp_path / "out", "--jobs", jobs) == 2
        message = capsys.readouterr().err
        assert words in message
        assert ("point 1 (engine.max_num_seqs=1), seed 0: " in message) or jobs > 1
        assert "sim.conformance" in message
        assert "Traceback" not in message


def test_a_module_that_can_be_imported_is_named_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "strangers_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "own.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    study = write_study(tmp_path, OWN.replace("own:", "strangers_package.own:"))
    named = run_study(study, plugins=["strangers_package.own"])
    (tmp_path / "files").mkdir()
    study, module = folder_with(tmp_path / "files")
    assert named.requests.equals(run_study(study, plugins=[module]).requests)


def test_a_module_may_import_one_that_is_named_before_it(tmp_path: Path) -> None:
    (tmp_path / "basis.py").write_text(MODULE, encoding="utf-8")
    study, module = folder_with(
        tmp_path, OWN.replace("{most: 3}", "{}").replace("own:Long", "basis:Long"),
        "from basis import Reversed as Basis\n\n\nclass Reversed(Basis):\n"
        "    def __init__(self, pool, waiting, settings):\n"
        "        super().__init__(pool, waiting, settings, most=2)\n",
    )  # fmt: skip
    assert len(run_study(study, plugins=[tmp_path / "basis.py", module]).runs) == 4


def test_threads_that_allow_different_modules_of_one_name_do_not_mix(tmp_path: Path) -> None:
    """As on a worker of a cluster that serves two people."""
    ranks = {}
    files = []
    for sign in ("", "-"):
        (tmp_path / f"of{sign}").mkdir()
        files.append(tmp_path / f"of{sign}" / "own.py")
        files[-1].write_text(MODULE.replace("-sequence", f"{sign}sequence"), encoding="utf-8")
    met = threading.Barrier(2)

    def use(file: Path) -> None:
        from sim.settings.registry import order

        with allowed(read_plugins([file])):
            met.wait()
            queue = order("own:LongestPrompt")()
            assert isinstance(queue, Ranked)
            ranks[file] = queue.rank(Sequence(0, 0.0, 7, 1, 0))

    threads = [threading.Thread(target=use, args=(file,)) for file in files]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [ranks[file] for file in files] == [7, -7]


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_forty_lines_runs_and_keeps_the_rules(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 40
    run = (
        "run", example.with_suffix(".yaml"), "--plugin", example, "--out", tmp_path / "out",
        "--set", "workload.num_requests=50", "--seeds", "1", "--no-figures",
    )  # fmt: skip
    for words in (run, ("check", example, "--cases", "20")):
        done = headroom(*words)
        assert done.status == 0, done.err
    assert (tmp_path / "out/summary.csv").is_file()
    assert " that keeps " in done.out


def test_check_is_a_command_and_says_which_class_breaks_which_rule(tmp_path: Path) -> None:
    _, module = folder_with(tmp_path)
    words = ["check", module, "Stuck", "LongestPrompt", "--cases", "5"]
    process = subprocess.run(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    stuck, longest = process.stdout.splitlines()
    assert stuck.startswith("Stuck: a scheduler that breaks a rule: never stuck: ")
    assert longest.startswith("LongestPrompt: an order that keeps ")
    done = headroom("check", module, "Reversed", "--set", "most=3", "--cases", "5")
    assert done.status == 0, done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("Reverse",), "has no Reverse: did you mean Reversed?"),
        (("Reversed", "--set", "most"), "expected KEY=VALUE"),
    ],
)
def test_what_check_does_not_understand(
    words: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    _, module = folder_with(tmp_path)
    done = headroom("check", module, *words)
    assert (done.status, done.out) == (2, "")
    assert expected in done.err


def test_a_router_of_one_s_own_is_split_as_it_says_and_stays_in_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = (
        "from sim.routers.router import Looks, Router\n\n\nclass ByLength(Router):\n"
        "    looks_at = Looks.NOTHING\n\n    def __init__(self, view, rng, *, shift: int = 0):\n"
        "        super().__init__(view, rng)\n        self.shift = shift\n\n"
        "    def choose(self, arrival):\n"
        "        return arrival.prompt_tokens % len(self.view.numbers) + self.shift\n"
    )
    text = SMALL.replace("gpu: t4", "gpu: t4\n  replicas: 3\n  router: own:ByLength")
    study, file = folder_with(tmp_path, text, module)
    requests = run_study(study, plugins=[file]).requests
    assert (requests["replica"] == requests["prompt_tokens"] % 3).all()
    shifted = text.replace("own:ByLength", "own:ByLength\n  router_settings: {shift: 1}")
    command = (write_study(tmp_path, shifted), "--plugin", file, "--out", tmp_path / "out")
    assert run_cli(*command) == 2
    assert "the router chose replica 3, expected 0 to 2" in capsys.readouterr().err
