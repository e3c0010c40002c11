import pytest

from assembler.device import get_device
from assembler.host_pools.base import HostKVCache
from tools.bench.transfer.pools import POOLS, host_arguments, moved_pages
from tools.bench.transfer.run import bench_transfers
from tools.errors import ToolError


def test_a_device_that_is_no_gpu_is_refused():
    with pytest.raises(ToolError, match=r"needs a GPU; expected a visible GPU, got cpu"):
        bench_transfers(["mha"], device="cpu", page_counts=[1], rounds=1)


@pytest.mark.parametrize("name", POOLS)
def test_every_pool_has_every_layout_that_it_names(name):
    measured, device = POOLS[name], get_device("cpu")
    pool = measured.make_device(2 * measured.page_size, device)

    for backend, layout in measured.choices:
        host = measured.make_host(pool, host_arguments(measured, layout, device))
        assert isinstance(host, HostKVCache)
        assert layout in host.layouts[backend]
        assert host.size > 2 * measured.page_size


def test_a_state_stands_for_many_pages():
    assert moved_pages(POOLS["mha"], 128) == 128
    assert moved_pages(POOLS["mamba"], 128) == 4
    assert moved_pages(POOLS["mamba"], 1) == 1
