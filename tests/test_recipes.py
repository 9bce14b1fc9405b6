"""The recipes of CONTRIBUTING.md, followed: in a copy of the checkout, with the files they name."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("model", "hardware", "workloads", "sim", "experiments")
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.*)\n((?:(?!^###? ).*\n)+)", PAGE, re.MULTILINE))
FOLDERS = (
    "model/catalogue", "model/mixers", "model/families", "sim/routers", "sim/engine",
    "sim/engine/caches",
)  # fmt: skip
"""Where a recipe puts a file of its own, beside one that it names."""

STUDY = """\
name: tried
model: opt-125m
cluster: {gpu: t4}
engine: {dtype: float16}
workload:
  arrivals: {process: poisson, rate_per_s: 200}
  lengths:
    prompt: {distribution: uniform, min: 10, max: 60}
    output: {distribution: uniform, min: 2, max: 30}
  num_requests: 40
"""


@dataclass
class Checkout:
    """A copy that is changed."""

    folder: Path
    recipe: str

    def change(self, name: str, after: str, text: str) -> None:
        """Put text behind the first place where ``after`` stands, in a file that is named."""
        assert f"`{name}`" in RECIPES[self.recipe], f"{name} is not in the recipe"
        path = self.folder / name
        before = path.read_text(encoding="utf-8")
        assert after in before, f"{after} is no longer in {name}"
        path.write_text(before.replace(after, after + text, 1), encoding="utf-8")

    def add(self, name: str, text: str) -> None:
        """Put a new file beside those that the recipe names."""
        path = self.folder / name
        assert not path.exists()
        beside = str(Path(name).parent)
        assert beside in FOLDERS
        assert f"`{beside}/" in RECIPES[self.recipe], f"{beside} is not in the recipe"
        path.write_text(text, encoding="utf-8")

    def run(self, *words: str) -> str:
        """Run a command in the copy, which must succeed; return all that it said."""
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def study(self, *settings: str, dry: bool = True) -> str:
        """Run a small study with settings; return what it said."""
        (self.folder / "tried.yaml").write_text(STUDY, encoding="utf-8")
        told = [word for each in settings for word in ("--set", each)]
        how = ["--dry-run"] if dry else ["--out", "out", "--jobs", "1", "--no-figures"]
        return self.run("-m", "experiments", "run", "tried.yaml", *told, *how)

    def in_schema(self, *words: str) -> bool:
        """Tell whether the schema of a study knows words, without anybody having told it."""
        schema = self.run("-m", "experiments", "schema")
        return all(f'"{word}"' in schema for word in words)


@pytest.fixture
def following(tmp_path: Path) -> Callable[[str], Checkout]:
    def follow(recipe: str) -> Checkout:
        ignored = shutil.ignore_patterns("*.so", "compiled.sha256")
        for room in ROOMS:
            shutil.copytree(ROOT / room, tmp_path / room, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        return Checkout(tmp_path, recipe)

    return follow


Following = Callable[[str], Checkout]


def test_every_recipe_is_followed() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for title in RECIPES:
        assert f'following("{title}")' in source, title
    assert len(RECIPES) == 9


def test_a_family_of_checkpoints(following: Following) -> None:
    checkout = following("A family of checkpoints")
    checkout.change(
        "model/families/llama_rows.py", "ROWS: dict[str, Row] = {\n",
        '    "tried": Row(class_name="TriedForCausalLM", norm="layernorm", gated=False),\n',
    )  # fmt: skip
    checkout.change("model/families/registry.py", "MODULES = {\n", '    "tried": "llama_rows",\n')
    config = json.loads((ROOT / "model/catalogue/qwen2.5-7b.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["TriedForCausalLM"], "model_type": "tried"}
    checkout.add("model/catalogue/tried-6b.json", json.dumps(config))
    said = checkout.study("model=Tried-6B", "cluster.gpu=h100-sxm")
    assert "tried-6b on 1 x h100-sxm" in said
    assert "weights" in said


MIXER = """\
from dataclasses import dataclass

from model.caches import Cache
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel
from model.mixers.recurrent import state_cache


@dataclass(frozen=True, kw_only=True)
class Fading:
    hidden_size: int
    rotary = None
    vector_numbers = 0
    told = "its channels"

    @property
    def matrices(self):
        return (Matrix("fade_in", (Width(self.hidden_size),), repeated(self.hidden_size)),)

    @property
    def caches(self):
        return (state_cache((Width(self.hidden_size),), 2),)

    def kernel(self, tp):
        return Kernel("fading mean", self.hidden_size // tp, 1, 0)

    def operators(self, rows, share):
        return [*share.products(self.matrices[0], rows)]

    def attention(self, attended, share, *, fused, decode):
        wide = share.precision.activation_bytes
        states = 2 * attended.sequences * self.caches[0].sequence_bytes(wide, share.tp)
        return [share.attention("fade", 3 * attended.rows, 2 * attended.rows * wide, states)]
"""
FADING = """\
from model.families.keys import Family
from model.families.llama import LAYER
from model.families.windowed import WindowedKeys
from model.mixers.fading import Fading
from model.quantization.modules import names_below


class FadingKeys(WindowedKeys):
    sliding_window: int | None = None

    def mixer_at(self, place, config):
        if place % 2:
            return Fading(hidden_size=self.hidden_size)
        return self.attention(rotary=self.rotary_at("full_attention", config))


NAMES = names_below(LAYER, qkv_proj="self_attn.qkv", o_proj="self_attn.o", fade_in="fade.in",
                    mlp_up="mlp.up", mlp_down="mlp.down")
FAMILIES = {"fading": Family("FadingForCausalLM", FadingKeys, NAMES)}
"""


def test_a_mixer(following: Following) -> None:
    checkout = following("A mixer, or an MLP")
    checkout.add("model/mixers/fading.py", MIXER)
    checkout.add("model/families/fading.py", FADING)
    checkout.change("model/families/registry.py", "MODULES = {\n", '    "fading": "fading",\n')
    config = json.loads((ROOT / "model/catalogue/qwen2.5-7b.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["FadingForCausalLM"], "model_type": "fading"}
    config["sliding_window"] = None
    folder = checkout.folder / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    said = checkout.study("model=checkpoint", "cluster.gpu=h100-sxm", "engine.dtype=bfloat16")
    assert "14 layers with a state" in said
    assert "has no measured kernels of fading mean (14 of 28 layers)" in said


CACHE = """\
from sim.engine.caches.kv_cache import BlockPool


class Wasteful(BlockPool):
    def __init__(self, num_blocks, block_size):
        super().__init__(num_blocks // 2, block_size)
"""
ROW = """\
    "wasteful": CacheKind(
        lambda pool: not pool.engine.enable_prefix_caching,
        lambda pool, _: Wasteful(pool.num_gpu_blocks, pool.ledger.block_size),
    ),
"""


def test_a_cache(following: Following) -> None:
    checkout = following("A KV cache, or a tier behind one")
    checkout.add("sim/engine/caches/wasteful.py", CACHE)
    rows = "CACHES: Final[dict[str, CacheKind]] = {\n"
    checkout.change("sim/caches.py", rows, ROW)
    after = "from sim.engine.caches.state_groups import StateGroup, StateSettings\n"
    own = "from sim.engine.caches.wasteful import Wasteful\n"
    checkout.change("sim/caches.py", after, own)
    few = ("engine.num_gpu_blocks=40", "engine.max_num_seqs=64", "engine.block_size=8")
    most = {}
    for cached in ("true", "false"):
        checkout.study(*few, f"engine.enable_prefix_caching={cached}", dry=False)
        (row,) = pd.read_csv(checkout.folder / "out/summary.csv").to_dict("records")
        most[cached] = row["mean_batch_size"]
        shutil.rmtree(checkout.folder / "out")
    assert most["false"] < 0.8 * most["true"]


def test_a_gpu(following: Following) -> None:
    checkout = following("A GPU")
    table = (ROOT / "hardware/gpus.yaml").read_text(encoding="utf-8")
    block = re.search(r"^  l4:\n(    .*\n)+", table, re.MULTILINE)
    assert block is not None
    text = re.sub(r"aliases: \[.*\]", "aliases: [tried-gpu-48gb]", block[0]).replace(
        "  l4:", "  tried-gpu:", 1
    )
    checkout.change("hardware/gpus.yaml", block[0], "\n" + text)
    whose = "  tried-gpu: {kernels: l40s}\n"
    checkout.change("hardware/relatives.yaml", "\nrelatives:\n", whose)
    said = checkout.study("cluster.gpu=tried-gpu-48GB")
    assert "opt-125m on 1 x tried-gpu" in said
    assert "measured on l40s are applied to tried-gpu" in said


def test_a_trace_format(following: Following) -> None:
    checkout = following("A trace format")
    checkout.change(
        "workloads/traces/tables.py", "FORMATS = (\n",
        '    TraceFormat("tried", "came_ms", "asked", "given", "somebody", time_unit="ms"),\n',
    )  # fmt: skip
    rows = "".join(f"{250 * row},{10 + row},{5 + row}\n" for row in range(40))
    (checkout.folder / "trace.csv").write_text(f"came_ms,asked,given\n{rows}", encoding="utf-8")
    checkout.study("workload.trace=trace.csv", dry=False)
    requests = pd.read_parquet(checkout.folder / "out/requests.parquet")
    assert requests["prompt_tokens"].tolist() == [10 + row for row in range(40)]
    assert requests["arrival_s"].tolist() == [row / 4 for row in range(40)]


def test_a_metric(following: Following) -> None:
    checkout = following("A metric")
    checkout.change(
        "sim/measuring/metrics.py", '    "rejected": "of these, rejected on arrival",\n',
        '    "rejected_share": "of the requests that arrived, those that were rejected",\n',
    )  # fmt: skip
    checkout.change(
        "sim/measuring/metrics.py", '        "rejected": int((status == REJECTED).sum()),\n',
        '        "rejected_share": float((status == REJECTED).mean()),\n',
    )  # fmt: skip
    checkout.study("engine.max_model_len=40", dry=False)
    (row,) = pd.read_csv(checkout.folder / "out/summary.csv").to_dict("records")
    assert 0 < row["rejected_share"] == row["rejected"] / row["requests"] < 1
    checkout.run("-m", "experiments", "reference", "--out", "pages")
    assert "| `rejected_share` |" in (checkout.folder / "pages/metrics.md").read_text("utf-8")


def test_a_router(following: Following) -> None:
    checkout = following("A router")
    checkout.add(
        "sim/routers/last.py",
        '"""All to the last."""\n\nfrom sim.routers.router import Arrival, Looks, Router\n\n\n'
        'class Last(Router):\n    """The last replica."""\n\n    looks_at = Looks.NOTHING\n\n'
        "    def choose(self, arrival: Arrival) -> int:\n"
        '        """The highest number."""\n        return self.view.numbers[-1]\n',
    )
    registry = "sim/routers/registry.py"
    checkout.change(
        registry, '        "round_robin": "sim.routers.blind:RoundRobin",\n',
        '        "last": "sim.routers.last:Last",\n',
    )  # fmt: skip
    checkout.study("cluster.router=last", "cluster.replicas=3", dry=False)
    requests = pd.read_parquet(checkout.folder / "out/requests.parquet")
    assert set(requests["replica"]) == {2}
    assert checkout.in_schema("last")
    checkout.run("-m", "experiments", "check", "sim.routers.last", "--cases", "5")


def test_a_scheduling_policy_and_an_order(following: Following) -> None:
    checkout = following("A scheduling policy, or a queue order")
    checkout.add(
        "sim/engine/backwards.py",
        '"""The newest prompt first."""\n\n'
        "from sim.engine.chunked_prefill import ChunkedPrefill\n"
        "from sim.engine.sequence import Batch\n\n\n"
        'class Backwards(ChunkedPrefill):\n    """vLLM v1\'s steps, the newest prompt first."""\n\n'
        "    def form(self, now_s: float) -> Batch | None:\n"
        '        """In reverse."""\n'
        "        self.prefilling.sort(key=lambda each: -each.request)\n"
        "        return super().form(now_s)\n",
    )
    registry = "sim/settings/registry.py"
    checkout.change(registry, '    "static": Static,\n', '    "backwards": Backwards,\n')
    checkout.change(
        registry, "from sim.engine.chunked_prefill import ChunkedPrefill\n",
        "from sim.engine.backwards import Backwards\n",
    )  # fmt: skip
    path = checkout.folder / "sim/engine/waiting.py"
    checkout.change(
        "sim/engine/waiting.py", path.read_text(encoding="utf-8"),
        '\n\nclass LongestPrompt(Ranked):\n    """Longest prompt first."""\n\n'
        "    def rank(self, sequence: Sequence) -> float:\n"
        '        """Its tokens, the other way round."""\n'
        "        return -sequence.prompt_tokens\n",
    )  # fmt: skip
    checkout.change(registry, '    "fcfs": FirstCome,\n', '    "longest_prompt": LongestPrompt,\n')
    checkout.change(registry, "import ByPriority, FirstCome, ", "LongestPrompt, ")
    busy = ("engine.max_num_batched_tokens=16", "engine.max_num_seqs=4")
    own = ("engine.scheduler=backwards", "engine.order=longest_prompt")
    answers = []
    for settings in (busy, (*busy, *own)):
        checkout.study(*settings, dry=False)
        answers.append(pd.read_parquet(checkout.folder / "out/requests.parquet")["finish_s"])
        shutil.rmtree(checkout.folder / "out")
    assert not answers[0].equals(answers[1])
    assert checkout.in_schema("backwards", "longest_prompt")
    checkout.run("-m", "experiments", "check", "sim.engine.backwards", "--cases", "5")


def test_a_version_of_the_engine(following: Following) -> None:
    checkout = following("A version of the engine")
    table = "hardware/engines.yaml"
    path = checkout.folder / table
    newest = re.search(r'newest: "(.*)"', path.read_text(encoding="utf-8"))
    assert newest is not None
    path.write_text(path.read_text("utf-8").replace(newest[0], 'newest: "0.99"'), encoding="utf-8")
    checkout.change(table, 'since: {"0.5": 0.01, "0.8": 0.0', ', "0.99": 0.25')
    said = checkout.study()
    assert re.search(r"vLLM 0\.99", said)
    assert re.search(r"watermark\W+0\.25", said), said
    old = checkout.study(f"engine.version='{newest[1]}'")
    assert not re.search(r"watermark\W+0\.25", old)
