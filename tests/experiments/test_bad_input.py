"""Everything that can be wrong ends in one message that names it, and leaves nothing behind."""

import os
from pathlib import Path

import pytest
from study_files import ROOT, SMALL, refused, refused_study, start_cli, write_study

CSV = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"

BAD_SETTINGS = {
    "unknown key": ("engine.blok_size=16", ["engine.blok_size = 16", "did you mean block_size?"]),
    "unknown section": ("engin.block_size=16", ["engin: unknown key", "did you mean engine?"]),
    "key without its section": ("block_size=16", ["did you mean engine.block_size?"]),
    "text for a number": ("engine.max_num_seqs=many", ["max_num_seqs = many", "whole number"]),
    "number with a unit": ("warmup_s=40 ms", ["expected a number; did you mean 0.04?"]),
    "share in percent": ("warmup_fraction=5%", ["expected a number; did you mean 0.05?"]),
    "thousands": ("engine.max_model_len=32k", ["expected a whole number; did you mean 32000?"]),
    "number with a word": ("warmup_s=4 apples", ["expected a number"]),
    "quoted number": ('engine.max_num_seqs="8"', ["found the text '8'"]),
    "boolean for a number": ("seeds=true", ["seeds = true: expected a whole number"]),
    "fraction for a count": ("seeds=1.5", ["seeds = 1.5: expected a whole number"]),
    "negative rate": ("workload.arrivals.rate_per_s=-1", ["rate_per_s = -1", "greater than 0"]),
    "NaN": ("workload.arrivals.rate_per_s=.nan", ["rate_per_s = nan", "finite number"]),
    "infinity": ("workload.arrivals.rate_per_s=.inf", ["rate_per_s = inf", "finite number"]),
    "share above one": ("engine.gpu_memory_utilization=1.2", ["= 1.2", "less than or equal to 1"]),
    "no seeds": ("seeds=0", ["seeds = 0: expected greater than 0"]),
    "unknown model": ("model=otp-125m", ["model = 'otp-125m'", "did you mean opt-125m?"]),
    "unknown GPU": ("cluster.gpu=l40x", ["cluster.gpu = 'l40x'", "did you mean 'l40'?"]),
    "unknown calibration": ("calibration=nnoe", ["'nnoe' is no file that exists: did you mean no"]),
    "unknown router": ("cluster.router=rond_robin", ["did you mean round_robin?"]),
    "unknown scheduler": ("engine.scheduler=chunked", ["did you mean chunked_prefill?"]),
    "unknown process": ("workload.arrivals.process=poison", ["did you mean poisson?"]),
    "process left out": ("workload.arrivals={rate_per_s: 1}", ["arrivals.process: missing"]),
    "key of another process": (
        "workload.arrivals.users=1",
        ["users = 1: unknown key; it belongs to closed_loop, and workload.arrivals.process is p"],
    ),
    "key of a law elsewhere": ("workload.min=1", ["min = 1: unknown key, expected one of arr"]),
    "a word for a number": ("workload.priorities={high: 1}", ["high = 1: a key here is a whole"]),
    "key of the top": ("workload.precision=5%", ["did you mean precision, at the top of the"]),
    "minutes": ("warmup_s=5m", ["expected a number; did you mean 300?"]),
    "millions": ("workload.num_requests=2m", ["did you mean 2000000?"]),
    "another word for a type": ("engine.dtype=half", ["dtype = half: did you mean float16?"]),
    "several GPUs": ("cluster.gpu=4xH100", ["expected the name of one, h100-sxm; how many"]),
    "parallel size": ("cluster.tensor_parallel_size=5", ["tensor_parallel_size = 5", "nearest: 4"]),
    "too large a model": ("model=opt-13b", ["does not fit on t4", "left for KV", "that fits"]),
    "token budget": ("engine.max_num_batched_tokens=3", ["= 3 is smaller than", "= 4"]),
    "missing trace": ("workload.trace=none.csv", ["none.csv", "no such file"]),
    "broken GPU": ("cluster.gpu={memory_bytes: 1, foo: 2}", ["cluster.gpu.foo", "peak_flops"]),
    "length with a unit": ("workload.lengths.prompt=2k", ["= 2k", "did you mean 2000?"]),
    "trace without a name": ("workload.trace=''", ["trace = '': expected a text that is not"]),
    "baseline that is no point": ("baseline=99", ["baseline = 99: expected the number of a point"]),
    "half of the lengths": ("workload.lengths.output=null", ["expected both prompt and output"]),
    "no workload": ("workload=null", ["workload: expected a mapping", "arrivals"]),
    "name that is a path": ("name=a/b", ["name = a/b"]),
    "nothing inside": ("name.first=1", ["--set name.first=1: name = small has no keys to set"]),
    "no value": ("engine.block_size", ["--set engine.block_size: expected KEY=VALUE"]),
    "no key": ("=3", ["--set =3: expected KEY=VALUE"]),
    "broken value": ("engine.block_size=[1", ["--set engine.block_size=[1: not valid YAML"]),
    "empty sweep list": ("sweep={engine.block_size: []}", ["expected at least one value"]),
    "no points": ("sweep=[]", ["sweep = []: expected at least one point"]),
    "sweep of a scalar": ("sweep={engine.block_size: 8}", ["expected a list of values, e.g. [8]"]),
    "sweep is a word": ("sweep=all", ["sweep = all: expected a mapping of dotted keys"]),
    "unknown key of two points": (
        "sweep={engine.blok_size: [8, 16]}",
        ["error:", "and 1 more", "engine.blok_size: unknown"],
    ),
    "half a key": ("workload.arrivals.rate=3", ["unknown key; did you mean rate_per_s?"]),
    "unknown swept key": ("sweep={engine.blok_size: [8]}", ["point 1", "mean block_size?"]),
    "unknown swept section": (
        "sweep={engin.block_size: [8]}",
        ["did you mean engine.block_size?"],
    ),
    "swept key without its section": ("sweep={gpu: [l40s]}", ["did you mean cluster.gpu?"]),
    "swept half a key": ("sweep=[{block: 8}]", ["did you mean engine.block_size?"]),
    "swept seeds": ("sweep={seeds: [1, 2]}", ["sweep.seeds = [1, 2]: cannot be swept"]),
    "same point twice": ("sweep={engine.block_size: [8, 8]}", ["points 1 and 2 are the same"]),
    "same point with a dot": (
        "sweep={engine.block_size: [8, 8.0]}",
        ["points 1 and 2 are the same"],
    ),
    "bad swept value": ("sweep={engine.block_size: [8, 0]}", ["point 2 (engine.block_size=0)"]),
    "swept twice": ("sweep={engine: [{}], engine.block_size: [8]}", ["is part of engine"]),
    "point that cannot be served": (
        "sweep={cluster.tensor_parallel_size: [1, 5]}",
        ["point 2 (cluster.tensor_parallel_size=5)", "does not divide"],
    ),
}


@pytest.mark.parametrize(("setting", "expected"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_setting(
    setting: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refused_study(monkeypatch, capsys, tmp_path, "--set", setting)
    for words in expected:
        assert words in message


BAD_FILES = {
    "duplicate key": (SMALL + "seeds: 3\n", ["bad.yaml:18: seeds = 3: duplicate key", "line 15"]),
    "not a mapping": ("- 1\n- 2\n", ["bad.yaml: a study must be a mapping"]),
    "empty": ("# nothing\n", ["bad.yaml: a study must be a mapping", "empty"]),
    "invalid YAML": (SMALL + "slo: {ttft_s: 1\n", ["bad.yaml:", "not valid YAML"]),
    "tab": ("name: x\n\tmodel: y\n", ["bad.yaml:2: not valid YAML"]),
    "a dotted key": (
        SMALL + "cluster.replicas: 2\n",
        ["bad.yaml:18: cluster.replicas = 2: unknown key; write replicas inside of cluster"],
    ),
    "merged keys": (
        SMALL + "slo: {<<: {ttft_s: 1}, tpot_s: 1}\n",
        ["error: bad.yaml:18: <<: merged keys are of YAML 1.1 and not read, expected the keys"],
    ),
    "two documents": (SMALL + "---\nname: b\n", ["bad.yaml:18", "a second document begins"]),
    "a space of a web page": (
        SMALL.replace("  lengths:", "\u00a0\u00a0lengths:"),
        ["not valid YAML: line 11 has a space of another kind (U+00A0), expected plain ones"],
    ),
    "pool by its name": (
        SMALL.replace("  gpu: t4\n", "  pools: [{name: a, gpu: t4}, {name: b, gpu: l4}]\n").replace(
            "  engine.max_num_seqs: [1, 4]", "  cluster.pools.b.replicas: [1, 2]"
        ),
        ["expected cluster.pools[1] instead of cluster.pools.b"],
    ),
    "tag": (SMALL.replace("seeds: 2", "seeds: !!python/int 2"), ["bad.yaml:15: tag"]),
    "alias of itself": ("name: &n [*n]\n", ["bad.yaml:1", "inside its own anchor"]),
    "missing model": (SMALL.replace("model: opt-125m\n", ""), ["bad.yaml: model: missing"]),
    "missing GPU": (SMALL.replace("  gpu: t4\n", "  replicas: 1\n"), ["bad.yaml:4: cluster.gpu"]),
    "YAML 1.1 boolean": (SMALL.replace("seeds: 2", "seeds: yes"), ["bad.yaml:15: seeds = yes"]),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(
    text: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refused_study(monkeypatch, capsys, tmp_path, text=text, name="bad.yaml")
    for words in expected:
        assert words in message


BAD_TRACES = {
    "broken row": (CSV + "2023-11-16 18:15:50.9951690,many,109\n", [":3", "many"]),
    "short row": (CSV + "2023-11-16 18:15:50.9951690\n", [":3"]),
    "negative length": (CSV + "2023-11-16 18:15:50.9951690,-4,109\n", [":3", "-4"]),
    "header only": (CSV.splitlines()[0] + "\n", ["trace.csv"]),
    "empty": ("", ["trace.csv"]),
    "unknown header": ("a,b,c\n1,2,3\n", ["trace.csv"]),
}


@pytest.mark.parametrize(("text", "expected"), BAD_TRACES.values(), ids=BAD_TRACES)
def test_bad_trace(
    text: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "trace.csv").write_text(text)
    options = ("--set", "workload.trace=trace.csv")
    message = refused_study(monkeypatch, capsys, tmp_path, *options)
    for words in expected:
        assert words in message


BAD_COMMANDS = {
    "missing study file": (["none.yaml"], ["study none.yaml does not exist"]),
    "unknown bundled study": (["batching_swep"], ["did you mean batching_sweep?"]),
    "folder as a study": (["."], ["study . is a folder"]),
    "no study": ([], ["expected a study"]),
    "seeds 0": (["small.yaml", "--seeds", "0"], ["--seeds", "'0'", "at least 1"]),
    "jobs that is a word": (["small.yaml", "--jobs", "all"], ["--jobs", "'all'"]),
    "unknown option": (["small.yaml", "--seed", "3"], ["--seed"]),
    "file as output": (["small.yaml", "--out", "small.yaml"], ["small.yaml is not a folder"]),
    "output below a file": (["small.yaml", "--out", "small.yaml/x"], ["cannot be written"]),
    "output is not ours": (["small.yaml", "--out", "mine"], ["not a results folder", "letter.txt"]),
    "output without manifest": (["small.yaml", "--out", "csv"], ["csv is not a results folder"]),
    "output of no name": (["small.yaml", "--out", ""], ["--out is empty, expected a folder"]),
    "long name": (["small.yaml", "--out", "a" * 300], ["aaa... cannot be", "File name too long"]),
    "this folder": (["small.yaml", "--out", "."], ["--out . is the folder that you are in"]),
    "the one above": (["small.yaml", "--out", ".."], ["--out .. is the folder that you are in"]),
    "the root": (["small.yaml", "--out", "/"], ["--out / is the folder that you are in, or one"]),
    "dangling link": (["small.yaml", "--out", "link"], ["--out link is a link to nothing"]),
    "source code": (["small.yaml", "--out", f"{ROOT}/sim/x"], ["is in sim/ of headroom itself"]),
    "work folder": (["small.yaml", "--out", "a/.headroom-work/b"], ["is for unfinished runs"]),
    "control characters": (["small.yaml", "--out", "small.yaml/\x1b[2J"], ["small.yaml/?[2J can"]),
}


@pytest.mark.parametrize(("argv", "expected"), BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_bad_command(
    argv: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path)
    for name in ("mine/letter.txt", "csv/summary.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("precious")
    (tmp_path / "link").symlink_to("nothing")
    message = refused(capsys, tmp_path, *argv)
    for words in expected:
        assert words in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_output_where_nothing_can_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even a folder that was not there a moment ago: no other run is to blame for that."""
    message = refused(capsys, tmp_path, write_study(tmp_path), "--out", "/proc/headroom")
    assert "--out /proc/headroom cannot be written: No such file or directory" in message


def test_output_without_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, whom no permission stops.
    monkeypatch.setattr(Path, "mkdir", refuse)
    message = refused(capsys, tmp_path, tmp_path / "small.yaml", "--out", tmp_path / "out")
    assert "out cannot be written: Permission denied" in message


def test_every_fault_of_a_file_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL
    for right, wrong in {
        "opt-125m": "opt-125n",
        "gpu: t4": "gpu: l40x",
        "max_num_seqs: 8": "max_num_seqs: 0",
        "dtype: float16": "dtype: half",
        "rate_per_s: 20": "rate_per_s: -20",
        "num_requests: 20": "num_request: 20",
        "seeds: 2": "seeds: 0\nseeds: 2",
        "[1, 4]": "[1, x]",
    }.items():
        text = text.replace(right, wrong)
    message = refused_study(monkeypatch, capsys, tmp_path, text=text, name="bad.yaml")
    assert message.startswith("error: 9 problems\n")
    lines = [line.split(": ")[0].strip() for line in message.splitlines()[1:]]
    assert lines == [f"bad.yaml:{line}" for line in (3, 5, 7, 8, 10, 14, 15, 16, 18)]
    assert "workload.num_request = 20: unknown key" in message
    assert "did you mean num_requests?" in message


def test_bad_point_is_found_before_a_good_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("simulated although a point is bad")

    monkeypatch.setattr("experiments.running.pieces.simulate", never)
    text = SMALL.replace("engine.max_num_seqs: [1, 4]", "model: [opt-125m, opt-13b]")
    path = write_study(tmp_path, text)
    message = refused(capsys, tmp_path, path, "--out", tmp_path / "out")
    assert f"{path}:17: point 2 (model=opt-13b): opt-13b with one KV block does not" in message


PLACES = {
    "option": (["engine.quantization=awq", "cluster.gpu=v100"], "--set", "capability 7, but awq"),
    "option beside a GPU of the file": (["engine.quantization=awq"], "--set", "capability 7"),
    "GPU of the file": ([], "bad.yaml:6", "gpu v100-32gb-sxm has compute capability 7, but gptq"),
    "rate": (
        ["engine.quantization=null", "workload.arrivals.rate_per_s=1e-308"],
        "--set",
        "1e-308",
    ),
    "model": (["engine.quantization=null", "model=llama-3-70b"], "--set", "does not fit"),
    "sweep": (
        [
            "engine.quantization=null",
            "sweep={engine.dtype: [float16, bfloat16], cluster.gpu: [t4]}",
        ],
        "--set",
        "gpu t4 has no bf16",
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("settings", "place", "words"), PLACES.values(), ids=PLACES)
def test_what_only_building_shows_has_its_place(
    settings: list[str],
    place: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = SMALL.replace(
        "gpu: t4\nengine:", "replicas: 1\n  gpu: v100\nengine:\n  quantization: gptq"
    )
    options = [word for setting in settings for word in ("--set", setting)]
    message = refused_study(monkeypatch, capsys, tmp_path, *options, text=text, name="bad.yaml")
    assert message.startswith(f"error: {place}: ")
    assert words in message


def test_a_fault_that_names_nothing_written_has_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("something else is wrong")

    monkeypatch.setattr("experiments.study.build.built", refuse)
    message = refused_study(monkeypatch, capsys, tmp_path, "--set", "sweep={}")
    assert message == "error: small.yaml: something else is wrong\n"


def test_problems_in_a_process_of_its_own(tmp_path: Path) -> None:
    write_study(tmp_path)
    process = start_cli("small.yaml", "--set", "engine.blok_size=1", cwd=tmp_path)
    output, message = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == ""
    assert message.startswith("error: --set: engine.blok_size = 1: unknown key")
    assert os.listdir(tmp_path) == ["small.yaml"]
