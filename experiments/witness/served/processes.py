"""vLLM's processes: its server, an engine core that times steps, and its bench client.

The engine's process has one core, and torch one thread in it; the API server and whoever asks it
share the other one.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.calibrating.measure import Shape
from experiments.witness.environment import Environment
from experiments.witness.served.setting import CONFIG, UNIPROC, Engine
from model.dataclass import dataclass

ENGINE_CORE, OTHERS = 0, 1
"""Cores of the machine."""
READY_S = 300.0
PR_SET_PDEATHSIG = 1
"""Of Linux' ``prctl``."""
CHECKOUT = Path(__file__).parents[3]
VARIABLES = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip
"""Nothing leaves the machine; the developer's routes empty the prefix cache between two runs."""
SAMPLES = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "preemptions": "vllm:num_preemptions_total",
    "queries": "vllm:prefix_cache_queries_total",
    "hits": "vllm:prefix_cache_hits_total",
}
"""What is read of /metrics."""


class ServerFailedError(RuntimeError):
    """A process of vLLM that ended, or does not answer."""


def variables() -> dict[str, str]:
    """Of the environment of vLLM's processes."""
    return os.environ | VARIABLES | {"PYTHONPATH": str(CHECKOUT)}


@dataclass(frozen=True, slots=True)
class Server:
    """A server on the loopback."""

    process: "subprocess.Popen[bytes]"
    port: int

    def ask(self, route: str, post: bool = False) -> str:
        """Return what a route says."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{route}", data=b"" if post else None
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def empty_cache(self) -> None:
        """Forget all prompts."""
        self.ask("/reset_prefix_cache", post=True)

    def sample(self) -> dict[str, float]:
        """What the server says of itself now."""
        found = dict.fromkeys(SAMPLES, 0.0)
        for line in self.ask("/metrics").splitlines():
            for name, metric in SAMPLES.items():
                if line.startswith(metric + "{"):
                    found[name] = float(line.rsplit(" ", 1)[1])
        return found

    def engine(self) -> int:
        """Process of the engine core."""
        for child in children(self.process.pid):
            if Path(f"/proc/{child}/comm").read_text().startswith("VLLM::EngineCor"):
                return child
        raise ServerFailedError("the server has no process VLLM::EngineCore")


@contextmanager
def server(environment: Environment, model: Path, engine: Engine, log: Path) -> Iterator[Server]:
    """Run a server until it is not needed any more.

    Raises:
        ServerFailedError: it did not start; with the end of its log.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "load-format": "dummy", "dtype": "float32", "host": "127.0.0.1", "port": port,
        "max-model-len": engine.max_model_len, "max-num-seqs": engine.max_num_seqs,
        "max-num-batched-tokens": engine.max_num_batched_tokens, "block-size": engine.block_size,
        "num-gpu-blocks-override": engine.num_gpu_blocks, "distributed-executor-backend": UNIPROC,
    }  # fmt: skip
    command = [str(environment.python), str(environment.python.parent / "vllm"), "serve"]
    command += [str(model), "--enforce-eager", "--disable-uvicorn-access-log"]
    command += ["--enable-prefix-caching" if engine.caching else "--no-enable-prefix-caching"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=variables(),
            preexec_fn=ends_with_us,
        )  # fmt: skip
    try:
        found = Server(process, port)
        _until_ready(found, log)
        pin(process.pid, OTHERS)
        pin(found.engine(), ENGINE_CORE)
        yield found
    finally:
        end(process)


def _until_ready(found: Server, log: Path) -> None:
    start_s = time.monotonic()
    while time.monotonic() - start_s < READY_S and found.process.poll() is None:
        try:
            found.ask("/health")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise ServerFailedError(f"the server did not start:\n{log.read_text()[-3000:]}")


def ends_with_us() -> None:
    """Let a process that is about to start be told to end when this one dies, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process and what it started."""
    started = children(process.pid)
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in started:
        with suppress(ProcessLookupError):
            os.kill(child, 9)


class StepTimer:
    """Times steps of the engine core, as ``experiments.calibrating.measure`` wants it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._second: tuple[Shape, float] | None = None

    def asked(self, line: dict[str, Any]) -> dict[str, Any]:
        """Ask the driver.

        Raises:
            ServerFailedError: it has ended.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(line) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise ServerFailedError("the engine that times steps has ended: see its log")
        found: dict[str, Any] = json.loads(answer)
        return found

    def time_s(self, shape: Shape) -> float:
        """Seconds of one step; asked twice in a row the second is after the shape itself."""
        if self._second is not None and self._second[0] == shape:
            seconds = self._second[1]
            self._second = None
            return seconds
        line = {"contexts": shape.contexts, "chunks": shape.chunks}
        first, second = self.asked(line)["seconds"]
        self._second = shape, second
        return float(first)


@contextmanager
def step_timer(
    environment: Environment, model: Path, engine: Engine, log: Path
) -> Iterator[StepTimer]:
    """Run an engine core that times steps, with room beside a full batch of decodes."""
    settings = {
        "model": str(model), "tokenizer": str(model), "load_format": "dummy", "dtype": "float32",
        "max_model_len": engine.max_model_len + 512, "max_num_seqs": engine.max_num_seqs + 4,
        "max_num_batched_tokens": engine.max_num_batched_tokens + engine.max_num_seqs,
        "block_size": engine.block_size, "enforce_eager": True,
        "distributed_executor_backend": UNIPROC, "vocabulary": CONFIG["vocab_size"],
    }  # fmt: skip
    command = [str(environment.python), "-m", "experiments.witness.served.steps_driver"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=file, text=True, env=variables(), preexec_fn=ends_with_us,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ServerFailedError(f"no engine that times steps:\n{log.read_text()[-3000:]}")
        pin(process.pid, ENGINE_CORE)
        yield StepTimer(process)
    finally:
        end(process)


def pin(pid: int, core: int) -> None:
    """Keep all threads of a process on one core."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core % (os.cpu_count() or 1)})


def children(pid: int) -> list[int]:
    """Processes that a process has started, theirs included."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all threads."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return total / 1e9
