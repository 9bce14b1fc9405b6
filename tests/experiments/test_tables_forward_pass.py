"""Goldens of gpt2_xl_t4: the text's sums in integers, from L = 48, D = 1600, H = 25."""

import pytest
from table_rows import check, row

from experiments.texts.registry import table_schema

GOLDENS = {"gpt2_xl_t4"}
TABLE = "gpt2_xl_t4"
POINTS = [(1, 32), (1, 1024), (64, 32), (64, 1024)]
L, D, H = 48, 1600, 25


@pytest.mark.parametrize(("b", "n"), POINTS)
def test_flops_without_cache(b: int, n: int) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 1152BND^2 + 192BN^2D + 240HBN^2 + 240BND."""
    layer = 24 * b * n * D**2 + 4 * b * n**2 * D + 5 * H * b * n**2 + 5 * b * n * D
    found = row(TABLE, f"FLOPs without cache, B={b}, N={n}")
    assert found.text == L * layer
    assert found.exact == pytest.approx(found.text, rel=0.01)


@pytest.mark.parametrize(("b", "n"), POINTS)
def test_bytes_without_cache(b: int, n: int) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 2 (1056BND + 576D^2 + 288HBN^2 + 240D)."""
    layer = 22 * b * n * D + 12 * D**2 + 6 * H * b * n**2 + 5 * D
    assert row(TABLE, f"bytes without cache, B={b}, N={n}").text == 2 * L * layer


@pytest.mark.parametrize(("b", "n"), POINTS)
def test_flops_with_cache(b: int, n: int) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 1152BD^2 + 192BND + 144BHN + 240BD."""
    layer = 24 * b * D**2 + 4 * b * n * D + 3 * b * H * n + 5 * b * D
    found = row(TABLE, f"FLOPs with cache, B={b}, N={n}")
    assert found.text == L * layer
    assert found.exact == pytest.approx(found.text, rel=0.06)


@pytest.mark.parametrize(("b", "n"), POINTS)
def test_bytes_with_cache(b: int, n: int) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 2 (960BD + 576D^2 + 96BND + 96BHN + 240D).

    Its own softmax moves 2 B H N a layer more, which the printed sum drops.
    """
    layer = 20 * b * D + 12 * D**2 + 2 * b * n * D + 2 * b * H * n + 5 * D
    name = f"bytes with cache, B={b}, N={n}"
    assert row(TABLE, name).text == 2 * L * layer
    assert row(TABLE, f"{name}, corrected").text == 2 * L * (layer + 2 * b * H * n)


@pytest.mark.parametrize(
    ("quantity", "ms", "bound"),
    [
        ("time without cache, B=1, N=32", 10.24, "memory"),
        ("time without cache, B=1, N=1024", 71.70, "memory"),
        ("time without cache, B=64, N=32", 93.25, "compute"),
        ("time without cache, B=64, N=1024", 3969.3, "memory"),
        ("time with cache, B=1, N=32", 9.88, "memory"),
        ("time with cache, B=1, N=1024", 10.92, "memory"),
        ("time with cache, B=64, N=32", 12.65, "memory"),
        ("time with cache, B=64, N=1024", 79.69, "memory"),
    ],
)
def test_times_and_bounds(quantity: str, ms: float, bound: str) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: its sums on 65 TFLOP/s and 300 GB/s."""
    found = row(TABLE, quantity)
    assert found.text == pytest.approx(ms, rel=1e-3)
    assert found.note.startswith(f"{bound}-bound")
    assert found.exact is not None
    assert found.exact > found.text, "operator by operator takes no less than all at once"


@pytest.mark.parametrize("b", [1, 64])
def test_assumed_context(b: int) -> None:
    """Solved assignment on GPT-2 XL inference on a T4: a context of 4096; the model has 1024."""
    assert row(TABLE, f"time with cache, B={b}, context 4096, as printed").exact is None
    assert row(TABLE, f"time with cache, B={b}, context 1024, corrected").exact is not None


def test_kv_cache_bytes() -> None:
    """Solved assignment on GPT-2 XL inference on a T4: 307,200 B N bytes."""
    found = check(TABLE, "KV cache per token of one request", 307_200, 0)
    assert found.exact == 307_200


def test_other_inputs_print_nothing() -> None:
    """Solved assignment on GPT-2 XL inference on a T4: its figures belong to its inputs."""
    from experiments.texts.writing import computed

    study = table_schema(TABLE)(name="mine", table=TABLE, batches=(2,))
    assert all(found.printed is None for found in computed(study).rows)
    same = table_schema(TABLE)(name="mine", table=TABLE, description="x")
    assert any(found.printed is not None for found in computed(same).rows)
