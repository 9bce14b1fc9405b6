"""Goldens of memory_and_batch and opt_175b."""

import pytest
from table_rows import check, row

GOLDENS = {"memory_and_batch", "opt_175b"}
MEMORY = "memory_and_batch"


def test_rounded_parameters() -> None:
    """Systems-for-ML assignment, solution A: 8e9 parameters. Exact: the published checkpoint."""
    assert check(MEMORY, "parameters, rounded", 8e9, 1).exact == 8_030_261_248


def test_rounded_weights() -> None:
    """Systems-for-ML assignment, solution A: 15 GiB for 16e9 bytes, which are 14.90."""
    found = check(MEMORY, "weights, rounded", 15, 1)
    assert found.text == pytest.approx(16e9 / 2**30)


def test_kv_cache_of_a_request() -> None:
    """Systems-for-ML assignment, solution A: 0.5 GiB at 4096 tokens."""
    found = check(MEMORY, "KV cache of a request of 4096 tokens", 0.5, 0)
    assert found.exact == 2 * 2 * 32 * 8 * 128 * 4096 / 2**30


def test_batch_beside_fifteen_gib() -> None:
    """Systems-for-ML assignment, solution A: (80 - 15) / 0.5 = 130."""
    found = check(MEMORY, "largest batch, 4096 tokens, one GPU", 130, 0)
    assert found.exact is not None
    assert 0.8 * 130 < found.exact < 130


def test_batch_of_three_gpus() -> None:
    """Systems-for-ML assignment, solution A: (240 - 15) / 0.5 = 450, then wrongly times 3."""
    found = check(MEMORY, "largest batch, 4096 tokens, tensor parallel 3", 450, 0)
    assert found.exact is None, "32 heads are not cut into three"
    tripled = row(MEMORY, "the same times 3, as the text goes on")
    assert tripled.text == 1350
    assert "no sum over its GPUs" in tripled.note


def test_two_matrix_parameters() -> None:
    """Systems-for-ML assignment, solution B: 5.61e9 with a two-matrix MLP."""
    found = check(MEMORY, "parameters, two-matrix MLP", 5.61e9, 0.01e9)
    assert found.exact == 8_030_261_248


def test_two_matrix_weights() -> None:
    """Systems-for-ML assignment, solution B: 10.458 GiB."""
    check(MEMORY, "weights, two-matrix MLP", 10.458, 0.001)


@pytest.mark.parametrize(("tokens", "printed"), [(1024, 556), (2048, 278), (4096, 139)])
def test_batch_beside_two_matrix_weights(tokens: int, printed: int) -> None:
    """Systems-for-ML assignment, solution B: 556 / 278 / 139 on one GPU."""
    check(MEMORY, f"largest batch, {tokens} tokens, one GPU, two-matrix MLP", printed, 0)


@pytest.mark.parametrize(("tp", "printed"), [(2, 1196), (4, 2476), (8, 5036)])
def test_batch_of_groups(tp: int, printed: int) -> None:
    """Systems-for-ML assignment, solution B: 1196 / 2476 / 5036, printed per GPU."""
    found = check(MEMORY, f"largest batch, 1024 tokens, tensor parallel {tp}", printed, 0)
    assert "it is the group's" in found.note


def test_what_the_texts_leave_out_explains_the_difference() -> None:
    """Systems-for-ML assignment, solution A, against the ledger: nothing is lost on the way."""
    from table_rows import page_of

    left_out = [r for r in page_of(MEMORY).rows if r.quantity.startswith("left out")]
    assert len(left_out) >= 5
    missing_gib = sum(r.exact or 0 for r in left_out)
    weights = row(MEMORY, "weights, rounded").exact or 0
    exact = row(MEMORY, "largest batch, 4096 tokens, one GPU").exact
    assert exact == int((80 - weights - missing_gib + 1e-6) / 0.5)


def test_weights_of_opt_175b() -> None:
    """Blog on weights, FLOPs and KV cache of large models: 324 GiB, printed as 325 GB."""
    found = row("opt_175b", "weights")
    assert found.printed == 325
    assert found.text == pytest.approx(324, abs=0.5)
    assert found.exact == pytest.approx(325, abs=0.5)


def test_kv_cache_of_opt_175b() -> None:
    """Blog on weights, FLOPs and KV cache of large models: 1.195 TiB, printed as 1.2 TB."""
    found = check("opt_175b", "KV cache", 1.2, 0.1)
    assert found.text == pytest.approx(1.195, abs=0.0005)
    assert found.exact == found.text


def test_kv_cache_over_weights() -> None:
    """Blog on weights, FLOPs and KV cache of large models: 3.8 times the weights."""
    check("opt_175b", "KV cache over weights", 3.8, 0.1)
