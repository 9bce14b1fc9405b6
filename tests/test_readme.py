"""What the README and docs/ say is true: files, studies, the YAML and Python examples, figures."""

import io
import re
import runpy
import sys
import tomllib
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest import mock
from urllib.parse import urlparse

import pandas as pd
import pytest
from setuptools.config.expand import read_attr

import experiments
from experiments.cli.run import main
from experiments.running.api import load_study
from experiments.running.versions import versions
from experiments.study.bundled import bundled_studies

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = (
    "README.md", "CONTRIBUTING.md", *(page.relative_to(ROOT).as_posix() for page in DOCS)
)  # fmt: skip
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
WHOLE = "\n".join(TEXTS.values())


FOLDERS = (
    "tests", "experiments", "hardware", "sim", "docs", "model", "workloads", "benchmarks",
    "examples",
)  # fmt: skip
WITH_COMMANDS = ("witness",)
"""Commands of headroom whose first word is a command with options of its own."""


def block(language: str, page: str) -> str:
    """The only fenced block of a language in a page."""
    found = re.findall(rf"```{language}\n(.*?)```", TEXTS[page], re.DOTALL)
    assert len(found) == 1, f"expected one {language} block"
    return str(found[0])


def commands() -> list[str]:
    """Every ``python -m ...`` or ``headroom ...`` of blocks and sentences in the pages, without
    its comment, as the first."""
    lines = re.findall(
        r"^(?:    )?((?:python -m|headroom) [a-z.]+\b.*?)(?:\s{2,}#.*)?$", WHOLE, re.MULTILINE
    )
    lines += re.findall(r"`((?:python -m|headroom) [a-z.]+\b[^`\n]*)`", WHOLE)
    return [re.sub(r"^headroom ", "python -m experiments ", line) for line in lines]


def anchors(page: str) -> set[str]:
    """Where a link may lead to in a page: its headings, as GitHub names them, and marks."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a id="([^"]+)"></a>', page))


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_exist(page: str) -> None:
    here = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        target, _, heading = link.partition("#")
        if urlparse(target).scheme:
            continue
        there = here.parent / target if target else here
        assert there.exists(), f"{page} links to {link}"
        if heading:
            assert heading in anchors(there.read_text(encoding="utf-8")), f"{page} links to {link}"


def test_named_files_and_folders_exist() -> None:
    for name in set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.*-]+)`", WHOLE)):
        assert list(ROOT.glob(name)), name


def test_names_are_in_the_files_that_are_said_to_have_them() -> None:
    named = re.findall(r"`(\w+)`,? (?:of|in) `([\w/]+\.py)`|`(\w+)` \(`([\w/]+\.py)`", WHOLE)
    found = {(one or other, file or its) for one, file, other, its in named}
    assert len(found) > 10
    for name, file in found:
        if file.split("/")[0] not in FOLDERS:  # of vLLM
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"\b{name}\b", text), f"{name} of {file}"


def test_modules_that_rooms_are_said_to_hold_are_there() -> None:
    page = TEXTS["docs/architecture.md"]
    rows = re.findall(r"^\| \[[\w/]+\]\(\.\./([\w/]+)\) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 15
    for room, text in rows:
        folders = [ROOT / each for each in (room, *re.findall(r"\]\(\.\./([\w/]+)\)", text))]
        for name in re.findall(r"`([a-z_]+)`", text):
            if name != "headroom":  # the command
                there = ((folder / f"{name}.py").is_file() for folder in folders)
                assert any(there) or any((each / name).is_dir() for each in folders), (room, name)


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their bare names."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_studies_that_are_run_are_bundled() -> None:
    named = re.findall(r"-m experiments\.run ([\w.]+)", WHOLE)
    assert len(named) >= 8
    own = {"my_study.yaml"}
    for name in set(named) - own:
        assert name.removesuffix(".yaml") in bundled_studies(), name
    for name in bundled_studies():
        assert f"experiments.run {name}" in WHOLE, f"{name} is in no page"


def test_modules_that_are_run_exist() -> None:
    for module in {line.split()[2] for line in commands()}:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def help_of(module: str, *command: str) -> str:
    """What ``python -m module command --help`` prints, without a process for each.

    Here it may have been imported before; runpy warns of a module that would be there twice.
    """
    printed = io.StringIO()
    found = [name for name in (module, f"{module}.__main__") if name in sys.modules]
    before = {name: sys.modules[name] for name in found if not is_package(name)}
    for name in before:
        del sys.modules[name]
    with (
        mock.patch("sys.argv", [module, *command, "--help"]),
        redirect_stdout(printed),
        suppress(SystemExit),
    ):
        runpy.run_module(module, run_name="__main__")
    sys.modules.update(before)
    return printed.getvalue()


def is_package(name: str) -> bool:
    return hasattr(sys.modules[name], "__path__")


def test_options_that_are_used_exist() -> None:
    used: dict[tuple[str, ...], set[str]] = {}
    for line in commands():
        words = line.split()[2:]
        count = 1 if words[0] != "experiments" else 2 + (words[1] in WITH_COMMANDS)
        used.setdefault(tuple(words[:count]), set()).update(re.findall(r"(--[\w-]+)", line))
    for command, options in used.items():
        told = help_of(*command) if options else ""
        for option in options:
            assert re.search(rf"{option}\b", told), f"{option} of {command}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)|`make (\w+)`", WHOLE, re.MULTILINE):
        assert f"\n{''.join(target)}:" in makefile


@pytest.mark.parametrize("page", ["README.md", "docs/studies.md"])
def test_yaml_example_is_a_study(tmp_path: Path, page: str) -> None:
    path = tmp_path / "my_study.yaml"
    path.write_text(block("yaml", page), encoding="utf-8")
    study = load_study(path)
    assert study.name == "my_study"
    assert study.sweep
    assert main([str(path), "--dry-run", "--set", "cluster.replicas=2"]) == 0


def test_python_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = re.sub(
        r'("workload\.num_requests": )\d+', r"\g<1>40", block("python", "docs/studies.md")
    )
    assert '"workload.num_requests": 40' in text
    script = tmp_path / "example.py"
    script.write_text(text, encoding="utf-8")
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    assert "output_tokens_per_s" in printed


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of a table as rich draws it, by heading, which may have several lines or none."""
    heads, rows = (
        [[cell.strip() for cell in line.split(mark)[1:-1]] for line in text.splitlines()
         if line.startswith(mark)]
        for mark in "┃│"
    )  # fmt: skip
    headings = [" ".join(filter(None, words)) for words in zip(*heads, strict=True)]
    headings = [heading.replace("_ ", "_") for heading in headings]
    return [dict(zip(headings, row, strict=True)) for row in rows]


def without_pictures(out: Path) -> list[str]:
    return ["--jobs", "1", "--no-figures", "--out", str(out)]


def test_quoted_table_is_what_the_study_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row of it, the one that the text is about; in a pipe the table has more columns."""
    point = {"engine.scheduler": "chunked_prefill", "engine.max_num_seqs": "64"}
    settings = [word for key, value in point.items() for word in ("--set", f"{key}={value}")]
    assert (
        main(
            [
                "batching_sweep",
                "--jobs",
                "1",
                "--no-figures",
                "--out",
                str(tmp_path / "out"),
                *settings,
            ]
        )
        == 0
    )
    (printed,) = rows_of(capsys.readouterr().out)
    quoted = rows_of(TEXTS["docs/output.md"])
    assert len(quoted) == 15
    (row,) = (
        row for row in quoted if (row["scheduler"], row["max_num_seqs"]) == tuple(point.values())
    )
    shown = {name: cell for name, cell in row.items() if name in printed}
    assert len(shown) >= 4
    assert shown == {name: printed[name] for name in shown}


@pytest.mark.parametrize("gpu", ["l40s", "a100-80gb-sxm", "h100-sxm"])
def test_the_answer_of_the_readme_is_what_the_study_prints(
    gpu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (quoted,) = (line.split(" | ") for line in README.splitlines() if f"| `{gpu}` |" in line)
    rate = quoted[2].split()[0]
    settings = ["--set", f"cluster.gpu={gpu}", "--set", f"workload.arrivals.rate_per_s={rate}"]
    assert (
        main(
            ["gpu_choice", "--jobs", "1", "--no-figures", "--out", str(tmp_path / "out"), *settings]
        )
        == 0
    )
    (printed,) = rows_of(capsys.readouterr().out)
    assert rate == f"{float(printed['requests/s']):.0f}"
    assert float(printed["SLO %"]) >= 99.0
    assert quoted[3] == f"{printed['TPOT p99 ms'].split()[0]} ms"
    cost = printed["USD/M output tokens"].split()[0]
    assert quoted[4].removesuffix(" |") == f"{float(cost):.2f}"


def test_the_readme_is_short_and_every_page_is_in_the_index() -> None:
    assert README.count("\n") <= 200
    index = TEXTS["docs/README.md"]
    for page in PAGES:
        if page.startswith("docs/") and page.count("/") == 1 and page != "docs/README.md":
            assert f"]({page.removeprefix('docs/')})" in index, page
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        named = page.name == "README.md" or f"]({page.name})" in TEXTS["docs/decisions/README.md"]
        assert named, page


def test_results_folder_is_as_described(tmp_path: Path) -> None:
    described = set(re.findall(r"^\| `([\w.]+\.\w+)` \|", TEXTS["docs/output.md"], re.MULTILINE))
    out = tmp_path / "out"
    settings = ["--set", "workload.num_requests=30", "--set", "engine.scheduler=static"]
    assert (
        main(["batching_sweep", "--jobs", "1", "--seeds", "1", "--out", str(out), *settings]) == 0
    )
    assert {path.name for path in out.iterdir()} == described
    assert len(pd.read_csv(out / "summary.csv")) == 5


def test_every_test_named_by_an_invariant_exists() -> None:
    page = (ROOT / "docs/invariants.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 30
    for file, name in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE), f"{file}::{name}"


def test_no_measured_number_is_left_half_filled() -> None:
    """The measured numbers stand between two marks, so that they can be replaced as a whole."""
    begin, end = "<!-- measured numbers: begin -->", "<!-- measured numbers: end -->"
    page = TEXTS["docs/real_decoder.md"]
    assert page.count(begin) == page.count(end) == 1
    assert page.index(begin) < page.index(end)


def test_nobody_is_told_to_install_somebody_elses_package() -> None:
    """Until there is a release this is installed from its checkout, whatever an index has."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    told = re.compile(rf"pip3? install\s[^\n]*?['\"\s](headroom|{name})(\[|['\"\s]|$)")
    assert told.search("pip install 'headroom[dask]'")
    assert not told.search("pip install /src/headroom")
    for folder in ("experiments", "sim", "hardware", "model", "workloads", "benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".yaml", ".j2"):
                assert not told.search(path.read_text(encoding="utf-8")), path
    assert not told.search(README)


def test_the_version_is_that_of_the_code() -> None:
    """Another package of this name in the environment says nothing about it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    attribute = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert project["project"]["name"] != "headroom"
    assert read_attr(attribute, root_dir=ROOT) == experiments.__version__
    assert versions()["headroom"] == experiments.__version__
