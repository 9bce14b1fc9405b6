"""What a refusal says of a model that does not fit: its ledger, and what would do."""

import pytest

from hardware.gpu import load_gpu
from hardware.memory.kv_blocks import DoesNotFitError, MemoryDemand, memory_ledger
from model.precision import precision
from model.spec import load_spec


def ledger(model, gpu, **settings):
    """The ledger as vLLM 0.15 makes it."""
    usual = {
        "precision": precision(), "gpu_memory_utilization": 0.9, "max_num_batched_tokens": 2048,
        "max_num_seqs": 256, "version": "0.15",
    }  # fmt: skip
    return memory_ledger(
        MemoryDemand(spec=load_spec(model), gpu=load_gpu(gpu), **(usual | settings))
    )


def test_a_refusal_shows_the_ledger_and_the_size_that_fits():
    with pytest.raises(DoesNotFitError, match="llama-3-70b with one KV block does not fit") as e:
        ledger("llama-3-70b", "a100-80gb-sxm")
    message = str(e.value)
    assert "- weights             131.42 GiB" in message
    assert e.value.ledger.as_text() in message
    assert message.endswith("smallest tensor_parallel_size that fits on a100-80gb-sxm: 2")
    assert ledger("llama-3-70b", "a100-80gb-sxm", tp=2).num_gpu_blocks > 0


@pytest.mark.parametrize("more", [{}, {"max_model_len": 8000}])
def test_a_refusal_names_the_share_of_the_same_gpu_that_fits(more):
    with pytest.raises(DoesNotFitError) as e:
        ledger("llama-3-8b", "a100-80gb-sxm", gpu_memory_utilization=0.1, **more)
    share, group = str(e.value).splitlines()[-2:]
    least = float(
        share.removeprefix("smallest gpu_memory_utilization that fits on a100-80gb-sxm: ")
    )
    assert group.startswith("at 0.1: smallest tensor_parallel_size that fits on a100-80gb-sxm: ")
    ledger("llama-3-8b", "a100-80gb-sxm", gpu_memory_utilization=least, **more)
    with pytest.raises(DoesNotFitError):
        ledger("llama-3-8b", "a100-80gb-sxm", gpu_memory_utilization=least - 0.01, **more)


def test_no_share_is_named_where_none_would_do():
    with pytest.raises(DoesNotFitError) as e:
        ledger("llama-3-70b", "a100-80gb-sxm", gpu_memory_utilization=0.5)
    assert "smallest gpu_memory_utilization" not in str(e.value)
    with pytest.raises(DoesNotFitError) as e:  # blocks that are given pass the share
        ledger("llama-3-8b", "a100", gpu_memory_utilization=0.1, num_gpu_blocks=100_000)
    assert "smallest gpu_memory_utilization" not in str(e.value)


def test_a_refusal_names_a_larger_gpu_when_no_size_fits():
    with pytest.raises(DoesNotFitError, match="no tensor_parallel_size up to 8 fits on t4") as e:
        ledger("opt-175b", "t4", tp=8)
    assert str(e.value).endswith("smallest GPU of the catalogue that fits at "
                                 "tensor_parallel_size = 8: rtx-6000-ada")  # fmt: skip
