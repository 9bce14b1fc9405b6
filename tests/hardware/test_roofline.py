import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.gpu import Gpu, load_gpu
from hardware.links.interconnect import (
    all_gather_s,
    all_reduce_s,
    link_bytes_per_s,
    one_shot_all_reduce_s,
    ring_all_reduce_s,
    servers,
    told_of_servers,
)
from hardware.roofline import operator_s, ridge_flops_per_byte


@pytest.mark.parametrize(
    ("name", "compute", "flops_per_byte"),
    [
        # 312e12 / 2.039e12, 989.4e12 / 3.35e12, 65e12 / 320e9.
        ("a100-80gb-sxm", "bf16", 153.0),
        ("h100-sxm", "bf16", 295.3),
        ("t4", "fp16", 203.1),
    ],
)
def test_ridge(name, compute, flops_per_byte):
    gpu = load_gpu(name)
    ridge = ridge_flops_per_byte(gpu.peak(compute), gpu.bandwidth_bytes_per_s)
    assert ridge == pytest.approx(flops_per_byte, abs=0.05)


def test_an_operator_takes_its_longer_side():
    assert operator_s(2e12, 1e9, 1e12, 1e9) == 2.0
    assert operator_s(1e12, 3e9, 1e12, 1e9) == 3.0
    both = operator_s(np.array([2e12, 1e12]), np.array([1e9, 3e9]), 1e12, 1e9)
    np.testing.assert_array_equal(both, [2.0, 3.0])


def test_both_sides_meet_at_the_ridge():
    ridge = ridge_flops_per_byte(312e12, 2.039e12)
    assert operator_s(ridge * 1e9, 1e9, 312e12, 2.039e12) == pytest.approx(1e9 / 2.039e12)


def test_ring_all_reduce_moves_twice_all_but_one_nth():
    # 8 ranks, 800 MB at 450 GB/s: 2 * 7/8 * 800e6 / 450e9 = 3.111 ms, and 14 hops of 1 us.
    assert ring_all_reduce_s(800e6, 8, 450e9, 1e-6) == pytest.approx(3.1111e-3 + 14e-6, rel=1e-4)


def test_one_shot_all_reduce_reads_every_other_rank():
    assert one_shot_all_reduce_s(1e6, 4, 100e9, 1e-6) == pytest.approx(30e-6 + 2e-6)


def test_small_buffers_go_in_one_shot_and_large_ones_round_the_ring():
    gpu = load_gpu("h100")
    assert gpu.link_bytes_per_s is not None
    link = (gpu.link_bytes_per_s, gpu.link_latency_s)
    assert all_reduce_s(8e3, 8, gpu) == one_shot_all_reduce_s(8e3, 8, *link)
    assert all_reduce_s(8e8, 8, gpu) == ring_all_reduce_s(8e8, 8, *link)
    both = all_reduce_s(np.array([8e3, 8e8]), 8, gpu)
    np.testing.assert_array_equal(both, [all_reduce_s(8e3, 8, gpu), all_reduce_s(8e8, 8, gpu)])


def test_one_rank_has_nothing_to_reduce():
    gpu = load_gpu("t4")
    assert all_reduce_s(1e9, 1, gpu) == 0
    assert all_gather_s(1e9, 1, gpu) == 0


def test_all_gather():
    gpu = Gpu(
        memory_bytes=1,
        bandwidth_bytes_per_s=1,
        peak_flops_per_s={"bf16": 1},
        link_bytes_per_s=100e9,
        link_latency_s=1e-6,
    )
    assert all_gather_s(4e6, 4, gpu) == pytest.approx(30e-6 + 3e-6)
    assert all_gather_s(4e6, 4, gpu, 0.5) == pytest.approx(60e-6 + 3e-6)


def test_ranks_without_a_link():
    gpu = Gpu(memory_bytes=1, bandwidth_bytes_per_s=1, peak_flops_per_s={"bf16": 1})
    message = "tensor_parallel_size = 2 needs link_bytes_per_s of gpu custom"
    with pytest.raises(ValueError, match=message):
        all_reduce_s(1.0, 2, gpu)
    with pytest.raises(ValueError, match=message):
        all_gather_s(1.0, 2, gpu)


def test_ranks_of_another_server():
    message = "tensor_parallel_size = 9 is more than one server of gpu h100-sxm holds: 8 share"
    with pytest.raises(ValueError, match=message):
        all_reduce_s(1.0, 9, load_gpu("h100"))
    with pytest.raises(ValueError, match=r"of gpu l40s holds: 8 share .* or network_bytes_per_s"):
        all_gather_s(1.0, 16, load_gpu("l40s"))
    larger = load_gpu({"like": "h100", "gpus_per_server": 16})
    assert all_reduce_s(1e6, 16, larger) > all_reduce_s(1e6, 8, larger)


JOINED = {
    "memory_bytes": 1,
    "bandwidth_bytes_per_s": 1,
    "peak_flops_per_s": {"bf16": 1},
    "gpus_per_server": 4,
    "link_bytes_per_s": 100e9,
    "link_latency_s": 1e-6,
    "network_bytes_per_s": 10e9,
    "network_latency_s": 5e-6,
}


def test_all_reduce_over_two_servers():
    """8 MB: a ring of four at 100 GB/s, and one of two of 2 MB at 10 GB/s."""
    gpu = load_gpu(JOINED)
    inside = 2 * 3 / 4 * 8e6 / 100e9 + 6 * 1e-6
    between = 2 * 1 / 2 * 2e6 / 10e9 + 2 * 5e-6
    assert all_reduce_s(8e6, 8, gpu) == pytest.approx(inside + between)
    assert all_reduce_s(8e6, 8, gpu, 0.5) == pytest.approx(
        2 * (inside + between) - (6 * 1e-6 + 2 * 5e-6)
    )
    larger = all_reduce_s(np.array([1e3, 8e6]), 16, gpu)
    assert np.all(larger > all_reduce_s(np.array([1e3, 8e6]), 8, gpu))


def test_all_gather_over_two_servers():
    """8 MB of eight parts: four of them, 1 MB each, cross the network by one card each."""
    gpu = load_gpu(JOINED)
    inside = 3 / 4 * 8e6 / 100e9 + 3 * 1e-6
    assert all_gather_s(8e6, 8, gpu) == pytest.approx(inside + 1e6 / 10e9 + 5e-6)


def test_a_rack_that_links_join_is_one_server():
    gpu = load_gpu("gb200")
    assert servers(gpu, 72) == (1, 72)
    assert servers(load_gpu("h100"), 16) == (2, 8)
    assert all_reduce_s(1e8, 16, gpu) < all_reduce_s(1e8, 16, load_gpu("b200")) / 1.8
    assert told_of_servers(gpu, 16) == ""
    assert told_of_servers(load_gpu("b200"), 16).startswith(
        "tensor_parallel_size = 16 spans 2 servers of 8 b200-sxm: every all-reduce crosses the "
        "network at 50 GB/s"
    )


@pytest.mark.parametrize(
    ("ranks", "gb_per_s"),
    [(2, 64), (3, 128), (4, 192), (8, 448)],  # 64 GB/s to each peer, AMD MI300X datasheet
)
def test_a_full_mesh_has_one_link_to_each_peer(ranks, gb_per_s):
    gpu = load_gpu("mi300x")
    assert link_bytes_per_s(gpu, ranks) == gb_per_s * 1e9
    ring = ring_all_reduce_s(1e9, ranks, gb_per_s * 1e9, gpu.link_latency_s)
    assert all_reduce_s(1e9, ranks, gpu) == ring


def test_a_switch_gives_a_pair_all_of_its_links():
    assert link_bytes_per_s(load_gpu("h100"), 2) == link_bytes_per_s(load_gpu("h100"), 8) == 450e9


@given(
    bytes_=st.floats(0, 1e10),
    more=st.floats(0, 1e10),
    ranks=st.integers(2, 7),
    name=st.sampled_from(["a100", "h100", "l40s"]),
)
def test_all_reduce_grows_with_the_buffer_and_the_ranks(bytes_, more, ranks, name):
    gpu = load_gpu(name)
    seconds = all_reduce_s(bytes_, ranks, gpu)
    assert seconds <= all_reduce_s(bytes_ + more, ranks, gpu)
    assert seconds <= all_reduce_s(bytes_, ranks + 1, gpu)
    assert seconds <= all_reduce_s(bytes_, ranks, gpu, 0.5)
