"""Products of families with other mixers: FLOPs equal those that transformers computes."""

import pytest
from test_mixed_families import CASES, SMALL

from model.families.registry import FAMILIES
from model.from_config import spec_from_config
from model.ops import sequence_operators, token_operators
from model.precision import precision

TOKENS = 7
GROUPED = ("o_a_proj",)
"""Computed as a batch of products by transformers, which counts those apart."""


EACH = (
    ("deepseek_v3", 1), ("glm_moe_dsa", 1), ("deepseek_v4", 0), ("gpt_oss", 0), ("laguna", 0),
    ("qwen3_next", 0), ("kimi_linear", 1), ("nemotron_h", 1), ("granitemoehybrid", 0),
    ("falcon_h1", 1), ("jamba", 0), ("mamba", 1), ("lfm2", 1), ("minimax", 0),
    ("minimax_m3_vl_text", 0), ("gemma3n_text", 0), ("gemma4_text", 1), ("mimo_v2_flash", 0),
)  # fmt: skip
"""Every kind of mixer and MLP once."""


@pytest.mark.parametrize(("name", "which"), EACH)
def test_products_equal_those_of_transformers(name: str, which: int) -> None:
    """One pass over seven tokens without a past, expert by expert, to the integer."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    flop_counter = pytest.importorskip("torch.utils.flop_counter")
    told = {**SMALL, **CASES[name][which]}
    config = transformers.AutoConfig.for_model(name, **told)
    config._attn_implementation = config._experts_implementation = "eager"
    own = getattr(transformers, FAMILIES[name].class_name, None)
    torch.manual_seed(0)
    model = own(config) if own else transformers.AutoModelForCausalLM.from_config(config)
    counter = flop_counter.FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros((1, TOKENS), dtype=torch.long), use_cache=False)
    counted = counter.get_flop_counts()["Global"]
    expected = sum(n for op, n in counted.items() if str(op) in ("aten.mm", "aten.addmm"))
    spec = spec_from_config({"model_type": name, **told}, "tiny")
    operators = [
        *token_operators(spec, TOKENS, precision=precision()),
        *sequence_operators(spec, TOKENS, precision=precision()),
    ]
    products = sum(
        one.layers * one.flops
        for one in operators
        if one.kind == "gemm" and one.name not in GROUPED
    )
    padding = 2 * TOKENS * (128 - spec.vocab_size) * spec.hidden_size
    assert products - padding == expected
