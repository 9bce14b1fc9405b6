"""Goldens of operator_classes, on a decoder small enough to time in a moment."""

import json

import pytest

pytest.importorskip("torch")

from experiments.texts.operator_classes import OperatorClasses
from experiments.texts.page import Row

GOLDENS = {"operator_classes"}
CONFIG = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_head": 4,
    "n_layer": 2, "n_positions": 128, "vocab_size": 200, "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    study = OperatorClasses(name="x", model=str(path), layers=2, tokens=64, repeats=2)
    return {row.quantity: row for row in study.page().rows}


@pytest.mark.parametrize(
    ("name", "flops", "time"),
    [
        ("contractions", 99.80, 61.0),
        ("normalisations", 0.17, 25.5),
        ("element-wise", 0.03, 13.5),
    ],
)
def test_published_shares(rows: dict[str, Row], name: str, flops: float, time: float) -> None:
    """Ivanov et al. 2021, table 1: classes of operators of a BERT encoder layer."""
    assert rows[f"{name}, share of FLOPs"].printed == flops
    assert rows[f"{name}, share of time"].printed == time
    assert (rows[f"{name}, share of time"].exact or 0) > 0


@pytest.mark.parametrize("what", ["FLOPs", "time"])
def test_shares_add_up(rows: dict[str, Row], what: str) -> None:
    """Every operator has a class, Ivanov et al.'s three or none."""
    shares = [row.exact or 0 for name, row in rows.items() if name.endswith(f"share of {what}")]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(100)


def test_nearly_all_arithmetic_is_in_contractions() -> None:
    """Ivanov et al. 2021: 99.80% for BERT; a decoder of full size is within a percent of it."""
    from experiments.texts.profile import flops_by_class
    from model.ops import step_operators
    from model.precision import precision
    from model.spec import load_spec

    spec = load_spec("llama-3-8b")
    flops = flops_by_class(
        step_operators(spec, 0, 0, [(512, 0)], precision=precision(), fused=False)
    )
    assert flops["contractions"] / sum(flops.values()) > 0.99


def test_a_call_inside_a_known_one_belongs_to_it() -> None:
    """A softmax inside an element-wise call would be hidden: outermost names decide."""
    from types import SimpleNamespace

    from experiments.texts.profile import CLASSES, _add

    def event(name: str, self_us: float, *children: SimpleNamespace) -> SimpleNamespace:
        whole = self_us + sum(child.cpu_time_total for child in children)
        return SimpleNamespace(
            name=name, self_cpu_time_total=self_us, cpu_time_total=whole, cpu_children=children
        )

    total = dict.fromkeys(CLASSES, 0.0)
    _add(event("aten::rms_norm", 1, event("aten::mul", 5), event("aten::mean", 2)), total)
    _add(event("aten::reshape", 1, event("aten::copy_", 3)), total)
    _add(event("wrapper", 0, event("aten::linear", 1, event("aten::mm", 9))), total)
    assert total == {
        "contractions": 10, "normalisations": 8, "element-wise": 0, "copies and gathers": 4,
    }  # fmt: skip


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ivanov et al. 2021's figures alone make no table."""
    monkeypatch.setattr("experiments.texts.operator_classes.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="operator_classes needs torch: pip install"):
        OperatorClasses(name="x").page()
