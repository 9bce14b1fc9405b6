"""Tables of whole attention layers and of states become kernels of mixers."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.calibrating.kernel_calibration import kernels_from_tables
from experiments.calibrating.kernel_fit import DECODE_SEQUENCES
from experiments.calibrating.latent_fit import latent_layer, one_layer
from experiments.calibrating.layer_families import CHOSEN_BLOCKS
from hardware.calibration import DATASHEET
from hardware.prices.modelled import Roofline
from hardware.roofline import operator_s
from hardware.steps.setup import StepSetup, step_cost
from model.mixers.delta import DeltaRule
from model.precision import precision
from model.spec import load_spec
from tests.experiments.kernel_rows import BANDWIDTH, GPU, PEAK, usual_tables, write


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return usual_tables(tmp_path / "tables")


def latent_rows(*, prefill: bool) -> pd.DataFrame:
    """Layers of latent attention: products at 0.6, then 20 us and the latents at 0.7; prompts
    at 0.4 of their roofline."""
    lengths = [64, 512, 2048, 8192] if prefill else [2, 15, 4095, 16383, 65535]
    grid = product([1, 4, 16, 64, 128], lengths, [8, 16, 32])
    name = "isl" if prefill else "step"
    rows = pd.DataFrame(grid, columns=["batch_size", name, "num_heads"])
    times = []
    for batch, length, heads in rows.itertuples(index=False):
        layer, share = latent_layer(heads), one_layer("bf16")
        tokens = batch * length if prefill else batch
        products = (each for each in layer.operators(float(tokens), share) if each.gemm)
        seconds = sum(
            operator_s(each.flops, each.bytes, PEAK, BANDWIDTH) / 0.6 for each in products
        )
        if prefill:
            bound = Roofline(GPU, DATASHEET, fused=True).chunks(layer, share, 0.0)
            seconds += batch * bound.seconds(length, 0) / 0.4
        else:
            seconds += 2e-5 + batch * (length + 1) * 1152 / (0.7 * BANDWIDTH)
        times.append(1e3 * seconds)
    return rows.assign(latency=times, kv_cache_dtype="bfloat16", gemm_type="bfloat16")


def test_latent_attention_is_what_products_leave_of_a_layer(tables: Path) -> None:
    write(tables, "mla/vllm/mla_generation_module_perf", "0.24.0", latent_rows(prefill=False))
    write(tables, "mla/vllm/mla_context_module_perf", "0.24.0", latent_rows(prefill=True))
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    found = kernels.mixers["latent"]
    floor_s, base_s, share = found.decode["bf16"].of_batches(np.array([4, 64]), 1, 16)
    np.testing.assert_allclose(floor_s, 2e-5, rtol=0.1)
    np.testing.assert_allclose(base_s, 2e-5, rtol=0.1)
    np.testing.assert_allclose(share, 0.7, rtol=0.02)
    np.testing.assert_allclose(
        found.prefill["bf16"](rows=8192, positions=1024, heads=16), 0.4, rtol=0.05
    )
    assert kernels.held_out["latent decode bf16"].median < 0.02
    assert kernels.held_out["latent prefill bf16"].median < 0.03
    assert "latent layers 0.24.0" in kernels.source


def block_rows(*, prefill: bool) -> pd.DataFrame:
    """Layers that choose blocks: products at 0.6, then 30 us, and the index's keys at 0.7 beyond
    what it chooses; prompts at 0.4 of their roofline."""
    lengths = [64, 512, 2048, 8192] if prefill else [1023, 2047, 16383, 65535, 131071]
    grid = product([1, 4, 16, 64, 128], lengths, [16, 32, 64])
    name = "isl" if prefill else "step"
    rows = pd.DataFrame(grid, columns=["batch_size", name, "num_heads"])
    (model,) = CHOSEN_BLOCKS.models
    times = []
    for batch, length, heads in rows.itertuples(index=False):
        layer, share = CHOSEN_BLOCKS.layer(model, heads), one_layer("bf16")
        tokens = batch * length if prefill else batch
        products = (each for each in layer.operators(float(tokens), share) if each.gemm)
        seconds = sum(
            operator_s(each.flops, each.bytes, PEAK, BANDWIDTH) / 0.6 for each in products
        )
        if prefill:
            bound = Roofline(GPU, DATASHEET, fused=True).chunks(layer, share, 0.0)
            seconds += batch * bound.seconds(length, 0) / 0.4
        else:
            beyond = length + 1 if length > CHOSEN_BLOCKS.chosen else 0
            seconds += 3e-5 + batch * beyond * 128 * 2 / (0.7 * BANDWIDTH)
        times.append(1e3 * seconds)
    columns = {"kv_cache_dtype": "bfloat16", "gemm_type": "bfloat16", "model": model}
    return rows.assign(latency=times, **columns, **({"step": 0} if prefill else {}))


def test_chosen_blocks_are_what_products_leave_of_a_layer(tables: Path) -> None:
    """And a step is priced so: what its index reads of four sequences, per rank of 32 heads."""
    write(tables, "mla/vllm/mla_generation_module_perf", "0.24.0", latent_rows(prefill=False))
    for phase in ("generation", "context"):
        rows = block_rows(prefill=phase == "context")
        write(tables, f"msa/vllm/msa_{phase}_module_perf", "0.24.0", rows)
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    found = kernels.mixers["block sparse"]
    floor_s, base_s, share = found.decode["bf16"].of_batches(np.array([4, 64]), 1, 32)
    np.testing.assert_allclose(floor_s, 3e-5, rtol=0.1)
    np.testing.assert_allclose(base_s, 3e-5, rtol=0.1)
    np.testing.assert_allclose(share, 0.7, rtol=0.02)
    prompts = found.prefill["bf16"](rows=8192, positions=1024, heads=32)
    np.testing.assert_allclose(prompts, 0.4, rtol=0.05)
    assert kernels.held_out["block sparse decode bf16"].median < 0.02
    spec = load_spec("minimax-m3")
    sparse = next(kind for kind in spec.layers if kind.mixer.kernel(1).kind == "block sparse")
    one = replace(spec, layers=(replace(sparse, places=(0,)),))
    calibration = DATASHEET.model_copy(update={"kernels": kernels})
    cost = step_cost(
        StepSetup(
            spec=one, gpu=GPU, tp=2, precision=precision(), calibration=calibration, max_tokens=64,
            max_seqs=8,
        )
    )  # fmt: skip
    near, far = (cost.step_s(4, [4 * each] * len(cost.windows), ()) for each in (20_000, 120_000))
    assert far - near == pytest.approx(4 * 100_000 * 128 * 2 / (0.7 * BANDWIDTH), rel=0.02)


def state_rows() -> pd.DataFrame:
    """Updates of 3 us and 0.1 us a sequence and head; scans at 0.3 of their roofline."""
    updates = pd.DataFrame(
        product(["generation"], DECODE_SEQUENCES, [1], [2, 4, 8], [4, 8, 16]),
        columns=["phase", "batch_size", "seq_len", "num_k_heads", "num_v_heads"],
    )
    updates["latency"] = 3e-3 + 1e-4 * updates.batch_size * updates.num_v_heads
    scans = pd.DataFrame(
        product(["context"], [1, 4, 16], [16, 256, 1024, 8192], [4], [8, 16]),
        columns=updates.columns[:-1],
    )
    times = []
    for _, batch, length, keys, heads in scans.itertuples(index=False):
        layer = DeltaRule(
            hidden_size=4096, num_key_heads=keys, num_value_heads=heads, key_dim=128,
            value_dim=128, conv_kernel=4,
        )  # fmt: skip
        chunks = Roofline(GPU, DATASHEET, fused=True).chunks(layer, one_layer("bf16"), 0.0)
        times.append(1e3 * batch * chunks.seconds(length, 0) / 0.3)
    rows = pd.concat([updates, scans.assign(latency=times)], ignore_index=True)
    conv = rows.assign(kernel_source="causal_conv1d", latency=rows.latency / 9)
    return pd.concat([rows.assign(kernel_source="delta_rule"), conv], ignore_index=True)


def test_states_are_updated_and_scanned_as_measured(tables: Path) -> None:
    write(tables, "linear_attention/vllm/gdn_perf", "0.24.0", state_rows())
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    found = kernels.mixers["delta"]
    update_s, _, _ = found.decode["bf16"].of_batches(np.array([1, 64]), 1, 8)
    np.testing.assert_allclose(update_s, [3.8e-6, 54.2e-6], rtol=0.05)
    at = {"rows": 1024, "positions": 512, "heads": 8}
    np.testing.assert_allclose(found.prefill["bf16"](**at), 0.3, rtol=0.05)
    spec = load_spec("qwen3-next-80b-a3b").first_layers(3)
    calibration = DATASHEET.model_copy(update={"kernels": kernels})
    cost = step_cost(
        StepSetup(
            spec=spec,
            gpu=GPU,
            tp=4,
            precision=precision(),
            calibration=calibration,
            max_tokens=64,
            max_seqs=8,
        )
    )
    # 3 layers of 8 value heads a rank, whatever the contexts: 3.8 us for one sequence, 5.6 more for
    # 8 with states of 4 bytes a number, which here are 2.
    _, flat_s, slope_s = cost.decode_pieces[0][8][0]
    assert slope_s == 0
    np.testing.assert_allclose(flat_s, 3 * (3.8e-6 + 5.6e-6 / 2), rtol=0.05)
    assert cost.chunk_cost.seconds(64, 5000) == cost.chunk_cost.seconds(64, 0)
