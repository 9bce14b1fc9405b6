"""Whatever is in a file or on the command line: status 0 or 2, one message, nothing left behind."""

import json
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import wild
from hypothesis import given
from hypothesis import strategies as st
from study_files import ROOT

from experiments.cli import calibrate, run, validate

LIMIT_S = 60
"""For one input, which takes a hundredth of it."""
OUT = "the results"


class Hang(Exception):
    """No answer for a minute."""


@contextmanager
def in_time() -> Iterator[None]:
    """Fail what takes too long, rather than wait for it."""

    def stop(_: int, __: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ends_well(main: Any, files: dict[str, bytes], *argv: str) -> None:
    """Run a command beside ``files``; it may succeed or refuse, and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        out, err = StringIO(), StringIO()
        with (
            chdir(folder), redirect_stdout(out), redirect_stderr(err), in_time(),
            warnings.catch_warnings(action="error"),
        ):  # fmt: skip
            status = main([*argv])
        told = err.getvalue()
        assert status in (0, 2), told
        assert "Traceback" not in told
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        assert len(errors) == (status == 2), told
        assert len(told) < 20_000
        assert not set(out.getvalue() + told) & set(map(chr, (*range(9), *range(11, 32), 127)))
        left = set(os.listdir(folder)) - set(files)
        assert left <= ({OUT, f"{OUT}.yaml", f"{OUT}.png"} if status == 0 else set()), left
    finally:
        shutil.rmtree(folder)


def runs(study: str, **files: bytes) -> None:
    """Run a study for real."""
    contents = {"wild.yaml": study.encode("utf-8", "surrogatepass"), **files}
    ends_well(run.main, contents, "wild.yaml", "--out", OUT, "--jobs", "1")


def checks(study: dict[str, Any], *settings: str, **files: bytes) -> None:
    """Check a study beside files, simulating nothing."""
    options = [word for setting in settings for word in ("--set", setting)]
    contents = {"wild.yaml": wild.as_yaml(study).encode(), **files}
    ends_well(run.main, contents, "wild.yaml", "--dry-run", *options)


@wild.share()
@given(wild.studies())
def test_any_study(study: dict[str, Any]) -> None:
    runs(wild.as_yaml(study))


@wild.share()
@given(st.sampled_from(wild.STUDY_KEYS) | wild.words, wild.values)
def test_any_setting(key: str, value: Any) -> None:
    text = value if isinstance(value, str) else wild.as_yaml(value)
    checks(wild.BASE, f"{key}={text}".replace("\0", ""))


STUDIES = sorted((ROOT / "experiments" / "studies").glob("*.yaml"))
SERVING = [path for path in STUDIES if b"kind:" not in path.read_bytes()]


@wild.share()
@given(st.data())
def test_any_bytes_of_a_study(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(STUDIES))
    content = data.draw(wild.damaged(path.read_bytes()))
    ends_well(run.main, {"wild.yaml": content}, "wild.yaml", "--dry-run")


CALIBRATION = {
    "name": "wild", "source": "a test", "gpu": "l4", "gemm_flops": 0.7, "gemm_bytes": 0.8,
    "gemm_curve": [[1, 0.5], [64, 1.0]], "step_overhead_s": 0.001, "layer_overhead_s": 1e-5,
    "covariance": {
        "parameters": ["gemm_flops", "step_overhead_s"], "matrix": [[1e-3, 0], [0, 1e-9]]
    },
    "residuals": {"mean_absolute": 0.02, "worst_absolute": 0.1, "points": 9},
    "covered": {"max_step_tokens": 512, "max_context_tokens": 512, "max_decodes": 16},
}  # fmt: skip
CALIBRATED = {**wild.BASE, "calibration": "./k.yaml", "calibration_draws": 2, "sweep": {}}


@wild.share()
@given(wild.changed(CALIBRATION))
def test_any_calibration(calibration: Any) -> None:
    runs(wild.as_yaml(CALIBRATED), **{"k.yaml": wild.as_yaml(calibration).encode()})


@wild.share()
@given(st.data())
def test_any_bytes_of_a_calibration(data: st.DataObject) -> None:
    path = ROOT / "hardware" / "calibrations" / "a100-80gb-sxm.yaml"
    content = data.draw(wild.damaged(path.read_bytes()))
    checks({**wild.BASE, "calibration": "./k.yaml"}, **{"k.yaml": content})


GPU = {
    "name": "made up", "memory_bytes": 24 * 2**30, "bandwidth_bytes_per_s": 3e11,
    "peak_flops_per_s": {"bf16": 1e14}, "link_bytes_per_s": 3e10, "usd_per_hour": 1.0,
}  # fmt: skip


@wild.share()
@given(wild.changed(GPU) | wild.changed({"like": "l4", "name": "x", "memory_bytes": 2**34}))
def test_any_gpu(gpu: Any) -> None:
    runs(wild.as_yaml({**wild.BASE, "cluster": {"gpu": gpu}, "sweep": {}}))


CONFIG = json.loads((ROOT / "model" / "catalogue" / "qwen3-0.6b.json").read_text())


@wild.share()
@given(wild.changed(CONFIG), st.booleans())
def test_any_config(config: Any, number: bool) -> None:
    study = {**wild.BASE, "model": "./config.json", "cluster": {"gpu": "h200"}}
    checks(study, "engine.max_model_len=512", **{"config.json": json.dumps(config).encode()})


TRACE = b"arrival_s,prompt_tokens,output_tokens\n0,5,5\n0.5,40,7\n1.25,12,3\n"
LINES = b'{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n' * 3
RUNS = (
    b"run_id,model,gpu,tp,engine,engine_version,request_rate_rps,n_requests,isl_mean,osl_mean,"
    b"ttft_mean_ms\na,meta-llama/Llama-3.1-8B-Instruct,H100 SXM,1,vllm,0.15.1,6,20,50,12,40\n"
)


@wild.share()
@given(st.data())
def test_any_table(data: st.DataObject) -> None:
    """A trace, lines of JSON, or measured runs."""
    if data.draw(st.integers(0, 3)) == 0:
        content = data.draw(wild.damaged(RUNS))
        ends_well(
            validate.main, {"runs.csv": content}, "runs.csv", "--out", OUT, "--jobs", "1",
            "--seeds", "1",
        )  # fmt: skip
        return
    name, content = data.draw(st.sampled_from([("t.csv", TRACE), ("t.jsonl", LINES)]))
    study = {**wild.BASE, "workload": {"trace": name}, "sweep": {}}
    runs(wild.as_yaml(study), **{name: data.draw(wild.damaged(content))})


@wild.share()
@given(st.lists(wild.words, max_size=3), st.sampled_from([run.main, validate.main, calibrate.main]))
def test_any_command_line(argv: list[str], main: Any) -> None:
    study = wild.as_yaml({**wild.BASE, "kind": "no such"}).encode()  # so that nothing is written
    ends_well(main, {"wild.yaml": study}, *argv)
