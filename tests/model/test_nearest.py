"""Which word was meant."""

import pytest

from model.nearest import closest

KEYS = (
    "max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size", "num_gpu_blocks",
    "gpu_memory_utilization", "watermark", "dtype", "quantization", "kv_cache_dtype",
)  # fmt: skip


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("blok_size", "block_size"),
        ("max_model_length", "max_model_len"),
        ("max_seqs", "max_num_seqs"),
        ("max-num-seqs", "max_num_seqs"),
        ("max_batched_tokens", "max_num_batched_tokens"),
        ("kv_dtype", "kv_cache_dtype"),
        ("gpu_memory_utilisation", "gpu_memory_utilization"),
        ("Dtype", "dtype"),
        ("dtyep", "dtype"),
        ("quantisation", "quantization"),
        ("num_gpu_block", "num_gpu_blocks"),
    ],
)
def test_the_right_one_is_nearest(word: str, meant: str) -> None:
    assert closest(word, KEYS) == meant


@pytest.mark.parametrize("word", ["temperature", "tp", "x", "", "pipeline_parallel_size"])
def test_nothing_is_near(word: str) -> None:
    assert closest(word, KEYS) is None


def test_a_beginning_is_enough_where_it_is_a_word() -> None:
    assert closest("chunked", ("static", "prefill_first", "chunked_prefill")) == "chunked_prefill"


def test_of_two_as_near_the_one_that_begins_alike() -> None:
    assert closest("l40", ("h40", "l4", "l40s")) in ("l4", "l40s")


@pytest.mark.parametrize(("word", "choice"), [("std", "slo"), ("classes", "cluster")])
def test_two_words_that_begin_alike_are_not_near_for_that(word: str, choice: str) -> None:
    assert closest(word, (choice,)) is None
